import ArgumentParser
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Scaling: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time one attention step of one layer over longer and longer contexts."
    )

    @OptionGroup var policies: BenchPolicies

    @Option(
      name: [.customLong("contexts"), .customLong("context"), .customLong("tokens")],
      help: "Tokens, separated by commas."
    )
    var contexts = NumberList(ScalingBenchmark.standardContexts)

    @OptionGroup var heads: BenchHeads

    @Option(help: "Layers that policies count; the middle one is measured.")
    var layers = 32

    @Option(help: "Steps to time. Without it, at least 15.")
    var runs: Int?

    @Option(
      help: ArgumentHelp(
        "Draw the times, as PREFIX.svg and PREFIX.png; or as one file, if the name ends in .svg.",
        discussion: "PNG needs rsvg-convert, of Debian's librsvg2-bin.",
        valueName: "prefix"
      )
    )
    var plot: String?

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      let files = try plot.map { try PlotFiles(name: $0) }
      var decode = DecodeBenchmark(shape: heads.shape(layers: layers), threads: threads.count)
      decode.runs = runs
      let policies = try policies.list()
      var report = try withProgress {
        try ScalingBenchmark(decode: decode).run(
          policies: policies,
          contexts: contexts.numbers,
          progress: $0
        )
      }
      if let files { report.plots = try files.write(report.chart) }
      print(output.json ? try JSONReport.text(report) : table(report))
    }

    private func table(_ report: ScalingReport) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("threads", .right), ("isa", .left),
        ("median", .right), ("ns/token", .right), ("runs", .right), ("page bytes", .right),
      ])
      for row in report.rows {
        table.append([
          row.policy,
          "\(row.tokens)",
          "\(row.threads)",
          row.isa,
          NumberText.duration(microseconds: row.medianMicroseconds),
          NumberText.decimal(row.nanosecondsPerToken, 1),
          "\(row.runs)",
          NumberText.bytes(row.pageBytes),
        ])
      }
      return ([table.text] + report.plots.map { "written: \($0)" }).joined(separator: "\n")
    }
  }
}
