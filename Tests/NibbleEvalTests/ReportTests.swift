import Foundation
import NibbleKV
import Testing

@testable import NibbleEval

/// A report of a tiny model, measured once.
enum TinyReport {
  static func run(
    _ policies: String = "k=int8+v=linear:2@recent=16",
    probe: String = "linear:2"
  ) throws -> ReportRun {
    var run = ReportRun(
      comparison: PolicyComparison(
        model: TinyModel(),
        documents: [TinyModel.document(300, seed: 5), TinyModel.document(200, seed: 6)],
        questions: [],
        threads: 1
      ),
      probe: try Policy(argument: probe)
    )
    run.policies = policies.isEmpty ? [] : try Policy.list(argument: policies)
    run.effort = ReportEffort(
      rows: 64,
      textTokens: 400,
      sensitivityTokens: 300,
      contexts: [128, 512],
      runs: 1,
      readByteCount: 2 << 20
    )
    return run
  }

  static let report = Result { try run().run() }
}

@Suite struct ReportTests {
  private var report: MeasurementReport {
    get throws { try TinyReport.report.get() }
  }

  @Test func noCodecBeatsTheBound() throws {
    let report = try report
    let names = report.distortion.rows.map(\.codec)
    #expect(names.contains("seeded") && names.contains("trellis:1"))
    #expect(Set(names).count == names.count && names.count > 25)
    for row in report.distortion.rows {
      // 64 rows are few, so the sample's own spread is allowed for.
      let bound = exp2(-2 * row.bitsPerValue) * 0.97
      #expect(row.relativeMSEOfKeys > bound || row.bitsPerValue >= 16, "\(row.codec)")
    }
    #expect(report.distortion.bound.first?.relativeMSE == 0.25)
  }

  @Test func everyHeadIsTriedByItself() throws {
    let report = try report
    #expect(report.sensitivity.rows.count == 4)
    #expect(report.sensitivity.rows.map(\.layer) == [0, 0, 1, 1])
    #expect(report.sensitivity.rows.map(\.side) == ["keys", "values", "keys", "values"])
    let values = report.sensitivity.rows.compactMap(\.klMean)
    #expect(values.count == 4 && values.allSatisfy { $0 > 0 } && Set(values).count == 4)
    // One side of one layer costs less than all together.
    let comparison = PolicyComparison(
      model: TinyModel(),
      documents: [TinyModel.document(300, seed: 5)],
      questions: [],
      threads: 1
    )
    let all = try comparison.run(policies: [Policy(argument: "linear:2")])[0].klMean
    #expect(try values.allSatisfy { $0 < (try #require(all)) })
  }

  @Test(arguments: KVSide.allCases)
  func aloneMeansOneStrip(side: KVSide) throws {
    let shape = ModelShape(layers: 3, queryHeads: 4, kvHeads: 2, headDim: 64)
    let probe = try Policy(argument: "k=int8+v=linear:2")
    let unit = TuningUnit(layer: 1, heads: 1..<2, side: side)
    let policy = probe.alone(unit, probe.codec(side), shape: shape)
    let entries = try Plan(policy: policy, shape: shape).entries.filter { !$0.codec.isExactRows }
    #expect(entries.count == 1)
    let entry = try #require(entries.first)
    #expect(entry.layer == 1 && entry.head == 1 && entry.side == side)
    #expect("\(entry.codec)" == (side == .keys ? "int8" : "linear:2"))
  }

  @Test func theFrontIsWhatNothingBetters() throws {
    let report = try report
    let rows = report.quality.rows
    #expect(rows.contains { $0.policy == "k=int8+v=linear:2@recent=16" })
    #expect(rows.contains { $0.policy == "balanced" } && !rows.contains { $0.policy == "exact" })
    for row in rows {
      let mean = try #require(row.klMean)
      let isBettered = rows.contains { other in
        guard let otherMean = other.klMean else { return false }
        return other.totalBytes <= row.totalBytes && otherMean <= mean
          && (other.totalBytes, otherMean) != (row.totalBytes, mean)
      }
      #expect(report.quality.front.contains(row.policy) != isBettered, "\(row.policy)")
    }
  }

  @Test func errorsAlongTheContextBeginWhereSomethingIsCompressed() throws {
    let report = try report
    let rows = report.attentionError.rows
    #expect(report.attentionError.step == 64)
    #expect(rows.map(\.position) == [128, 192, 256])
    let figure = try #require(report.figures.first { $0.name == "attention-error" })
    let chart = try #require(figure.plot as? LineChart)
    #expect(chart.horizontal.text(2_000) == "2000" && chart.series[0].number == 1)
    #expect(rows.allSatisfy { $0.relativeError > 0.001 && $0.relativeError < 1 })
  }

  @Test func pagesAreThoseOfTheCache() throws {
    let page = try #require(try report.pages.first)
    #expect(page.tokens == 300 && page.pageTokens == 64 && page.sinks == 4)
    #expect(page.rows.map(\.side) == ["keys", "values", "keys", "values"])
    for row in page.rows {
      #expect(row.stretches.map(\.kind) == ["sinks", "sealed", "tail"])
      #expect(row.stretches.map(\.tokens).reduce(0, +) == 300)
      #expect(row.stretches[1].codec == (row.side == "keys" ? "int8" : "linear:2"))
    }
  }

  @Test func fieldNames() throws {
    let text = try JSONReport.text(try report)
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    )
    func keys(_ path: String...) throws -> Set<String> {
      var value: Any = object
      for name in path {
        let next = try #require((value as? [String: Any])?[name])
        value = (next as? [Any])?.first ?? next
      }
      return Set(try #require(value as? [String: Any]).keys)
    }
    #expect(
      Set(object.keys) == [
        "version", "date", "model", "layers", "query_heads", "kv_heads", "head_dim", "isa",
        "distortion", "sensitivity", "quality", "scaling", "attention_error", "pages", "path",
        "plots",
      ]
    )
    #expect(try keys("distortion") == ["rows", "bound"])
    #expect(try keys("distortion", "bound") == ["bits_per_value", "relative_mse"])
    #expect(try keys("sensitivity") == ["codec", "tokens", "rows"])
    #expect(try keys("sensitivity", "rows") == ["layer", "kv_head", "side", "kl_mean"])
    #expect(try keys("quality") == ["rows", "front"])
    #expect(try keys("scaling") == ["rows"])
    #expect(try keys("attention_error") == ["step", "rows"])
    #expect(try keys("attention_error", "rows") == ["policy", "position", "relative_error"])
    #expect(try keys("pages") == ["policy", "tokens", "page_tokens", "sinks", "rows"])
    #expect(try keys("pages", "rows") == ["layer", "kv_heads", "side", "stretches"])
    #expect(
      try keys("pages", "rows", "stretches")
        == ["first_token", "tokens", "kind", "codec", "bits_per_value"]
    )
    #expect(object["path"] is NSNull)
  }

  @Test func whatDoesNotFitIsRefusedFirst() throws {
    var steps = 0
    let wrong = try Policy(argument: "linear:4")
    var run = try TinyReport.run()
    var policy = wrong
    policy.rules = [Policy.Rule(layers: [.index(7)], keys: .int8)]
    run.policies = [policy]
    #expect(throws: PolicyError.self) { try run.run { _ in steps += 1 } }
    #expect(steps == 0)
  }
}

@Suite struct ReportPageTests {
  @Test func everythingIsEscaped() throws {
    var report = try TinyReport.report.get()
    report.model = "<script>alert(\"a & b\")</script>'\u{1}"
    report.quality.rows[0].policy = "<b>"
    report.pages[0].policy = "a\" onload=\"b"
    let html = report.page.html
    #expect(!html.contains("<script") && !html.contains("<b>") && !html.contains("\u{1}"))
    #expect(!html.contains("onload=\"b"))
    #expect(html.contains("&lt;script&gt;alert(&quot;a &amp; b&quot;)&lt;/script&gt;&#39;\u{FFFD}"))
  }

  @Test func everyFigureHasItsPartsAndTheFileStaysSmall() throws {
    let report = try TinyReport.report.get()
    let html = report.page.html
    #expect(html.utf8.count < 3_000_000)
    #expect(!html.contains("http://") && !html.contains("https://") && !html.contains("url("))
    let names = report.figures.map(\.name)
    #expect(
      names == [
        "distortion", "sensitivity", "quality", "memory", "time", "attention-error", "pages-1",
      ]
    )
    for figure in report.figures {
      #expect(html.contains("<figure id=\"\(figure.name)\">"))
      #expect(html.contains("aria-labelledby=\"\(figure.name)-title\""))
      #expect(html.contains("<p id=\"\(figure.name)-summary\">"))
      #expect(!figure.table.rows.isEmpty && !figure.summary.isEmpty)
    }
    #expect(html.split(separator: "<details>").count == names.count + 1)
  }

  @Test func plotsAreFilesOfTheirOwn() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let program = folder.path + "/rsvg-convert"
    try "#!/bin/sh\ncp \"$5\" \"$4\"\n".write(toFile: program, atomically: true, encoding: .utf8)
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
    let figures = Array(try TinyReport.report.get().figures.prefix(2))
    let plots = folder.path + "/new/plots"
    let paths = try PlotFolder(plots, searchPath: folder.path).write(figures)
    #expect(
      paths
        == ["distortion.svg", "distortion.png", "sensitivity.svg", "sensitivity.png"].map {
          "\(plots)/\($0)"
        }
    )
    #expect(try String(contentsOfFile: paths[0], encoding: .utf8) == figures[0].plot.svg())
    #expect(throws: EvaluationError.self) { try PlotFolder(plots, searchPath: "/no/such") }
  }
}
