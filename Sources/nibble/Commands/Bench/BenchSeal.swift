import ArgumentParser
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Seal: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Decode tokens one by one and time those that seal pages."
    )

    @OptionGroup var policies: BenchPolicies

    @Option(name: [.customLong("tokens"), .customLong("context")], help: "Tokens to decode.")
    var tokens = 4_096

    @OptionGroup var heads: BenchHeads

    @Option(help: "Layers to decode: the middle ones of 32, or all of more.")
    var layers = 1

    @Option(help: "Times to decode the tokens; a token's time is the median of them.")
    var runs = 3

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      // Policies have rules for the first and the last layers.
      let shape = heads.shape(layers: max(32, layers))
      var benchmark = SealBenchmark(shape: shape, threads: threads.count)
      benchmark.layers = layers
      benchmark.runs = runs
      let policies = try policies.list()
      let rows = try withProgress {
        try benchmark.run(policies: policies, tokens: tokens, progress: $0)
      }
      print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
    }

    private func table(_ rows: [SealRow]) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("layers", .right), ("threads", .right),
        ("isa", .left), ("median", .right), ("99 %", .right), ("slowest", .right),
        ("99 %/median", .right), ("slowest/median", .right), ("pages sealed", .right),
        ("page bytes", .right),
      ])
      for row in rows {
        table.append([
          row.policy,
          "\(row.tokens)",
          "\(row.layers)",
          "\(row.threads)",
          row.isa,
          NumberText.duration(microseconds: row.medianMicroseconds),
          NumberText.duration(microseconds: row.p99Microseconds),
          NumberText.duration(microseconds: row.maxMicroseconds),
          NumberText.decimal(row.p99OverMedian, 2),
          NumberText.decimal(row.maxOverMedian, 2),
          "\(row.pagesSealed)",
          NumberText.bytes(row.pageBytes),
        ])
      }
      return table.text
    }
  }
}
