import ArgumentParser
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Decode: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time one attention step of one layer over a full cache."
    )

    @OptionGroup var policies: BenchPolicies

    @Option(
      name: [.customLong("context"), .customLong("tokens")],
      help: "Tokens; several are separated by commas."
    )
    var context = NumberList([32_768])

    @OptionGroup var heads: BenchHeads

    @Option(help: "Sequences of that many tokens each, attended to in one call.")
    var sequences = 1

    @Option(help: "Layers that policies count; the middle one is measured.")
    var layers = 32

    @Option(help: "Steps to time. Without it, at least 15.")
    var runs: Int?

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      var benchmark = DecodeBenchmark(shape: heads.shape(layers: layers), threads: threads.count)
      benchmark.sequences = sequences
      benchmark.runs = runs
      let policies = try policies.list()
      let rows = try withProgress {
        try benchmark.run(policies: policies, contexts: context.numbers, progress: $0)
      }
      print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
    }

    private func table(_ rows: [DecodeRow]) -> String {
      var table = TextTable([
        ("policy", .left), ("sequences", .right), ("tokens", .right),
        ("threads", .right), ("isa", .left),
        ("median", .right), ("min", .right), ("runs", .right), ("page bytes", .right),
        ("read at", .right), ("machine reads at", .right), ("of it", .right),
        ("bits/value", .right),
        ("relative error", .right),
      ])
      for row in rows {
        table.append([
          row.policy,
          "\(row.sequences)",
          "\(row.tokens)",
          "\(row.threads)",
          row.isa,
          NumberText.duration(microseconds: row.medianMicroseconds),
          NumberText.duration(microseconds: row.minMicroseconds),
          "\(row.runs)",
          NumberText.bytes(row.pageBytes),
          NumberText.bandwidth(row.bytesPerSecond),
          NumberText.bandwidth(row.machineReadBytesPerSecond),
          NumberText.percent(row.shareOfReadBandwidth),
          NumberText.decimal(row.bitsPerValue, 3),
          NumberText.significant(row.relativeError),
        ])
      }
      return table.text
    }
  }
}
