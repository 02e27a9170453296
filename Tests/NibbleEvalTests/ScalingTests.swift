import Foundation
import NibbleKV
import Testing

@testable import NibbleEval

@Suite struct ScalingTests {
  private var benchmark: ScalingBenchmark {
    var decode = DecodeBenchmark(shape: benchmarkShape(2, 1), threads: 1)
    decode.runs = 1
    decode.readByteCount = 2 << 20
    return ScalingBenchmark(decode: decode)
  }

  @Test func everyContextHasItsRow() throws {
    let policies = try Policy.list(argument: "float16,rotated:4")
    let report = try benchmark.run(policies: policies, contexts: [128, 1536])
    #expect(report.rows.map(\.tokens) == [128, 128, 1536, 1536])
    #expect(report.rows.map(\.policy) == ["float16", "rotated:4", "float16", "rotated:4"])
    for row in report.rows {
      #expect(row.nanosecondsPerToken == row.medianMicroseconds * 1e3 / Double(row.tokens))
    }
    #expect(report.rows[3].pageBytes < report.rows[2].pageBytes)
    let text = try JSONReport.text(report)
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    #expect(Set(try #require(object).keys) == ["rows", "plots"])
    let rows = try #require(object?["rows"] as? [[String: Any]])
    #expect(
      Set(rows[0].keys) == [
        "policy", "tokens", "query_heads", "kv_heads", "head_dim", "threads", "isa", "median_us",
        "runs", "page_bytes", "nanoseconds_per_token",
      ]
    )
    #expect(report.chart.series.map(\.name) == ["float16", "rotated:4"])
    #expect(report.chart.series[1].points.map(\.x) == [128, 1536])
    #expect(report.chart.series[1].points.map(\.y)[1] == report.rows[3].medianMicroseconds)
    #expect(report.memoryChart.series[1].points.map(\.y)[1] == Double(report.rows[3].pageBytes))
  }

  @Test func memoryIsCheckedBeforehand() throws {
    var benchmark = benchmark
    benchmark.availableBytes = 4 << 20
    // 65,536 tokens of 128 halves.
    let pages = 65_536 * 128 * 2
    do {
      _ = try benchmark.run(policies: [.float16], contexts: [128, 65_536])
      Issue.record("nothing was thrown")
    } catch EvaluationError.notEnoughMemory(let context, let needed, let available) {
      #expect(context == 65_536 && available == 4 << 20)
      #expect(needed >= pages && needed < pages * 5 / 4)
    }
  }

  @Test func systemMemoryIsPlausible() throws {
    let available = try SystemMemory.available()
    #expect(available > 64 << 20 && available < 1 << 50)
  }

  @Test func contextsAreChecked() {
    #expect(throws: EvaluationError.self) {
      try benchmark.run(policies: [.float16], contexts: [128, 0])
    }
  }
}
