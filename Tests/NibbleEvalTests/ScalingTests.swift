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

@Suite struct LineChartTests {
  private func chart(_ series: [LineChart.Series]) -> LineChart {
    LineChart(
      title: "a < b & c",
      horizontalTitle: "tokens",
      verticalTitle: "time",
      series: series,
      horizontalText: { NumberText.decimal($0, 0) },
      verticalText: { NumberText.decimal($0, 0) + " µs" }
    )
  }

  private func points(_ numbers: [(Double, Double)]) -> [LineChart.Point] {
    numbers.map { LineChart.Point(x: $0.0, y: $0.1) }
  }

  @Test func powersLieOnTheFrame() throws {
    let line = LineChart.Series(name: "\"x\"", points: points([(1024, 10), (4096, 1000)]))
    let svg = chart([line]).svg()
    // From the lower left to the upper right corner, so both axes are logarithmic and just as long as needed.
    #expect(svg.contains("<polyline points=\"104.0,390.0 612.0,44.0\""))
    #expect(svg.contains(">1024</text>") && svg.contains(">2048</text>"))
    #expect(svg.contains(">10 µs</text>") && svg.contains(">1000 µs</text>"))
    #expect(svg.contains(">a &lt; b &amp; c</text>") && svg.contains(">&quot;x&quot;</text>"))
  }

  @Test func middlesAreGeometric() {
    let line = LineChart.Series(name: "x", points: points([(1, 1), (2, 10), (4, 100)]))
    #expect(chart([line]).svg().contains("104.0,390.0 358.0,217.0 612.0,44.0"))
  }

  @Test func manyPowersAreThinnedOut() {
    let line = LineChart.Series(name: "x", points: points([(1024, 10), (1_048_576, 100)]))
    let svg = chart([line]).svg()
    #expect(svg.contains(">1024</text>") && svg.contains(">4096</text>"))
    #expect(!svg.contains(">2048</text>") && svg.contains(">1048576</text>"))
  }

  @Test(arguments: [[], [LineChart.Point(x: 5, y: 7)]])
  func fewPointsAreDrawn(points: [LineChart.Point]) {
    let svg = chart([LineChart.Series(name: "x", points: points)]).svg()
    #expect(svg.hasSuffix("</svg>\n"))
    #expect(!svg.contains("nan") && !svg.contains("inf") && !svg.contains("\"-\""))
  }
}

#if os(Linux) || os(macOS)
@Suite struct PlotFilesTests {
  private let chart = LineChart(
    title: "t",
    horizontalTitle: "x",
    verticalTitle: "y",
    series: [],
    horizontalText: { "\($0)" },
    verticalText: { "\($0)" }
  )

  private func withFolder(_ work: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try work(folder.path)
  }

  @Test func aMissingConverterIsNamedWithItsPackage() throws {
    let missing = EvaluationError.programNotFound(name: "rsvg-convert", package: "librsvg2-bin")
    #expect(throws: missing) { try PlotFiles(name: "plot", searchPath: "/no/such:/nor/such") }
    #expect(missing.description.contains("apt-get install librsvg2-bin"))
  }

  @Test func vectorsNeedNoConverter() throws {
    try withFolder { folder in
      let path = folder + "/a.svg"
      let written = try PlotFiles(name: path, searchPath: "").write(chart)
      #expect(written == [path])
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text == chart.svg())
    }
  }

  @Test func theConverterIsCalled() throws {
    try withFolder { folder in
      // Copies, as `--width 1280 --output PNG SVG` would have it.
      let program = folder + "/rsvg-convert"
      try "#!/bin/sh\ncp \"$5\" \"$4\"\n".write(toFile: program, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
      let paths = try PlotFiles(name: folder + "/a", searchPath: "/no/such:" + folder).write(chart)
      #expect(paths == [folder + "/a.svg", folder + "/a.png"])
      #expect(FileManager.default.contentsEqual(atPath: paths[0], andPath: paths[1]))
      try "#!/bin/sh\nexit 3\n".write(toFile: program, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
      #expect(throws: EvaluationError.self) {
        try PlotFiles(name: folder + "/b", searchPath: folder).write(chart)
      }
    }
  }

  @Test func unwritablePathsAreNamed() throws {
    let files = try PlotFiles(name: "/no/such/folder/a.svg", searchPath: "")
    #expect(throws: EvaluationError.self) { try files.write(chart) }
  }
}
#endif
