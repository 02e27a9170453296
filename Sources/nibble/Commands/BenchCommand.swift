import ArgumentParser
import NibbleEval
import NibbleKV

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure speed and memory on this machine, with random rows.",
    subcommands: [Decode.self, Encode.self, Memory.self]
  )
}

extension BenchCommand {
  struct Decode: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Time one attention step of one layer over a full cache."
    )

    @Option(
      name: [.customLong("policies"), .customLong("policy")],
      help: "The policies, separated by commas."
    )
    var policies = "float16,conservative,linear:4,clustered:4,rotated:4"

    @Option(
      name: [.customLong("context"), .customLong("tokens")],
      help: "Tokens; several are separated by commas."
    )
    var context = NumberList([32_768])

    @Option(help: "Query heads.")
    var queryHeads = 32

    @Option(help: "KV heads.")
    var kvHeads = 8

    @Option(help: "Channels of a head.")
    var headDim = 128

    @Option(help: "Layers that policies count; the middle one is measured.")
    var layers = 32

    @Option(help: "Steps to time. Without it, at least 15.")
    var runs: Int?

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      var benchmark = DecodeBenchmark(
        queryHeads: queryHeads,
        kvHeads: kvHeads,
        headDim: headDim,
        threads: threads.count
      )
      benchmark.layers = layers
      benchmark.runs = runs
      let policies = try Policy.list(argument: policies)
      let rows = try withProgress {
        try benchmark.run(policies: policies, contexts: context.numbers, progress: $0)
      }
      print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
    }

    private func table(_ rows: [DecodeRow]) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("threads", .right), ("isa", .left),
        ("median", .right), ("min", .right), ("runs", .right), ("page bytes", .right),
        ("read at", .right), ("machine reads at", .right), ("bits/value", .right),
        ("relative error", .right),
      ])
      for row in rows {
        table.append([
          row.policy,
          "\(row.tokens)",
          "\(row.threads)",
          row.isa,
          NumberText.duration(microseconds: row.medianMicroseconds),
          NumberText.duration(microseconds: row.minMicroseconds),
          "\(row.runs)",
          NumberText.bytes(row.pageBytes),
          NumberText.bandwidth(row.bytesPerSecond),
          NumberText.bandwidth(row.machineReadBytesPerSecond),
          NumberText.decimal(row.bitsPerValue, 3),
          NumberText.significant(row.relativeError),
        ])
      }
      return table.text
    }
  }

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

  struct Memory: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Fill a cache by chunked prefill and measure how much the process grows."
    )

    @OptionGroup var policy: PolicyOption

    @Option(name: [.customLong("context"), .customLong("tokens")], help: "Tokens.")
    var context = 65_536

    @Option(help: "Attention layers.")
    var layers = 16

    @Option(help: "Query heads. Without it, as many as KV heads.")
    var queryHeads: Int?

    @Option(help: "KV heads.")
    var kvHeads = 8

    @Option(help: "Channels of a head.")
    var headDim = 128

    @Option(help: "Tokens of one append.")
    var chunk = 512

    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      let benchmark = MemoryBenchmark(
        shape: ModelShape(
          layers: layers,
          queryHeads: queryHeads ?? kvHeads,
          kvHeads: kvHeads,
          headDim: headDim
        ),
        policy: try policy.policy(),
        chunk: chunk,
        threads: threads.count
      )
      let report = try withProgress { try benchmark.run(context: context, progress: $0) }
      print(output.json ? try JSONReport.text(report) : table(report))
    }

    private func table(_ report: MemoryReport) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("compressed tokens", .right),
        ("bits/value", .right), ("planned", .right), ("measured growth", .right),
        ("of planned", .right), ("float16", .right), ("of float16", .right),
      ])
      let growth = Double(report.residentGrowthBytes)
      table.append([
        report.policy,
        "\(report.tokens)",
        "\(report.compressedTokens)",
        NumberText.decimal(report.bitsPerValue, 3),
        NumberText.bytes(report.plannedBytes),
        NumberText.bytes(report.residentGrowthBytes),
        NumberText.percent(growth / Double(max(1, report.plannedBytes))),
        NumberText.bytes(report.float16Bytes),
        NumberText.percent(growth / Double(max(1, report.float16Bytes))),
      ])
      return table.text
    }
  }
}
