import ArgumentParser
import NibbleEval
import NibbleKV

extension BenchCommand {
  struct Encode: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time the encoders and measure what they lose on standard normal rows."
    )

    @Option(help: "Codecs as policies are written, separated by commas.")
    var codecs =
      "float16,int8,linear:4,linear:3,linear:2,clustered:4,clustered:3,clustered:2,"
      + "rotated:4,rotated:3,rotated:2"

    @Option(help: "Channels of a head.")
    var headDim = 128

    @Option(help: "Rows to encode.")
    var rows = 4_096

    @OptionGroup var output: OutputOption

    func run() throws {
      var benchmark = EncodeBenchmark(headDim: headDim)
      benchmark.rows = rows
      let codecs = try Policy.list(argument: codecs)
      let rows = try withProgress { try benchmark.run(codecs: codecs, progress: $0) }
      print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
    }

    private func table(_ rows: [EncodeRow]) -> String {
      var table = TextTable([
        ("codec", .left), ("head dim", .right), ("bits/value", .right),
        ("relative MSE", .right), ("ns/value", .right),
      ])
      for row in rows {
        table.append([
          row.codec,
          "\(row.headDim)",
          NumberText.decimal(row.bitsPerValue, 3),
          NumberText.decimal(row.relativeMSE, 6),
          NumberText.decimal(row.nanosecondsPerValue, 2),
        ])
      }
      return table.text
    }
  }
}
