import ArgumentParser
import Foundation
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Session: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time saving a sequence to a file and restoring it."
    )

    @OptionGroup var policy: PolicyOption

    @Option(name: [.customLong("context"), .customLong("tokens")], help: "Tokens.")
    var context = 65_536

    @Option(help: "Attention layers.")
    var layers = 16

    @OptionGroup var heads: BenchHeads

    @Option(help: "Times to do all.")
    var runs = 3

    @Option(
      help: "The folder that files are written to; the system's for temporary files without it."
    )
    var folder: String?

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      var benchmark = SessionBenchmark(
        shape: heads.shape(layers: layers),
        threads: threads.count,
        folder: folder ?? NSTemporaryDirectory()
      )
      benchmark.runs = runs
      let policy = try policy.policy()
      let row = try withProgress { progress in
        try benchmark.run(policy: policy, context: context, progress: progress)
      }
      print(output.json ? try JSONReport.text(RowReport(rows: [row])) : table(row))
    }

    private func table(_ row: SessionRow) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("file", .right), ("save", .right),
        ("plain write", .right), ("of its speed", .right), ("save again", .right),
        ("restore", .right), ("to first attention", .right), ("same output", .left),
      ])
      table.append([
        row.policy,
        "\(row.tokens)",
        NumberText.bytes(row.bytes),
        NumberText.duration(microseconds: row.saveMedianMicroseconds),
        NumberText.duration(microseconds: row.writeMedianMicroseconds),
        NumberText.percent(row.ofWriteSpeed),
        NumberText.duration(microseconds: row.appendMedianMicroseconds),
        NumberText.duration(microseconds: row.restoreMedianMicroseconds),
        NumberText.duration(microseconds: row.firstAttentionMedianMicroseconds),
        row.sameOutput ? "yes" : "no",
      ])
      return table.text
    }
  }
}
