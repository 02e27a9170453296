import ArgumentParser
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Prefix: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time the first token of a prompt that is new, and of one that comes again."
    )

    @OptionGroup var model: ModelOption
    @OptionGroup var policies: BenchPolicies

    @Option(name: [.customLong("tokens"), .customLong("context")], help: "Tokens of the prompt.")
    var tokens = 4_096

    @Option(help: "Tokens of one step of its prefill.")
    var chunk = 512

    @Option(help: "Times to take the prompt with each policy, new and again.")
    var runs = 3

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() async throws {
      let policies = try policies.list()
      var benchmark = PrefixBenchmark(model: try model.load().model, threads: threads.count)
      benchmark.chunk = chunk
      benchmark.runs = runs
      let bar = ProgressBar()
      let rows = try await benchmark.run(policies: policies, tokens: tokens, progress: bar.update)
      bar.clear()
      print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
    }

    private func table(_ rows: [PrefixRow]) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("threads", .right), ("isa", .left),
        ("new", .right), ("again", .right), ("ratio", .right), ("runs", .right),
        ("reused", .right), ("remembered", .right), ("same logits", .left),
      ])
      for row in rows {
        table.append([
          row.policy,
          "\(row.tokens)",
          "\(row.threads)",
          row.isa,
          NumberText.duration(microseconds: row.coldMedianMicroseconds),
          NumberText.duration(microseconds: row.warmMedianMicroseconds),
          NumberText.decimal(row.ratio, 1),
          "\(row.runs)",
          "\(row.reusedTokens)",
          NumberText.bytes(row.prefixBytes),
          row.sameLogits ? "yes" : "no",
        ])
      }
      return table.text
    }
  }
}
