import ArgumentParser
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Prefill: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time the prefill of one layer in chunks."
    )

    @OptionGroup var policies: BenchPolicies

    @Option(name: [.customLong("context"), .customLong("tokens")], help: "Tokens.")
    var context = 8_192

    @Option(help: "Tokens of one step.")
    var chunk = 512

    @OptionGroup var heads: BenchHeads

    @Option(help: "Layers that policies count; the middle one is measured.")
    var layers = 32

    @Option(help: "Contexts to time with each policy.")
    var runs = 3

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      var benchmark = PrefillBenchmark(shape: heads.shape(layers: layers), threads: threads.count)
      benchmark.chunk = chunk
      benchmark.runs = runs
      let policies = try policies.list()
      let rows = try withProgress {
        try benchmark.run(policies: policies, context: context, progress: $0)
      }
      print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
    }

    private func table(_ rows: [PrefillRow]) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("chunk", .right), ("threads", .right),
        ("isa", .left), ("attention", .right), ("min", .right), ("append", .right),
        ("runs", .right), ("tokens/s", .right), ("page bytes", .right),
        ("relative error", .right),
      ])
      for row in rows {
        table.append([
          row.policy,
          "\(row.tokens)",
          "\(row.chunk)",
          "\(row.threads)",
          row.isa,
          NumberText.duration(microseconds: row.medianMicroseconds),
          NumberText.duration(microseconds: row.minMicroseconds),
          NumberText.duration(microseconds: row.appendMedianMicroseconds),
          "\(row.runs)",
          NumberText.decimal(row.tokensPerSecond, 0),
          NumberText.bytes(row.pageBytes),
          NumberText.significant(row.relativeError),
        ])
      }
      return table.text
    }
  }
}
