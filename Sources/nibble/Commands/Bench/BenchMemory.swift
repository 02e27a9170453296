import ArgumentParser
import NibbleEval
import NibbleKV
import NibbleLlama

extension BenchCommand {
  struct Memory: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Fill a cache by chunked prefill and measure how much the process grows."
    )

    @OptionGroup var policy: PolicyOption

    @Option(name: [.customLong("context"), .customLong("tokens")], help: "Tokens.")
    var context = 65_536

    @Option(
      help: ArgumentHelp(
        "A config.json or its folder for the shape, instead of numbers.",
        valueName: "path"
      )
    )
    var model: String?

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

    @Option(help: "Sequences to fill.")
    var sequences = 1

    @Option(help: "Forks of the full sequence to make; what they take is measured by itself.")
    var forks = 0

    @OptionGroup var memory: MemoryOptions
    @OptionGroup var calibration: CalibrationOption
    @OptionGroup var threads: ThreadsOption
    @OptionGroup var output: OutputOption

    func run() throws {
      let catalogue = try calibration.catalogue()
      var benchmark = MemoryBenchmark(
        shape: try shape(calibration: catalogue.calibration),
        policy: try policy.policy(),
        chunk: chunk,
        threads: threads.count
      )
      benchmark.catalogue = catalogue
      benchmark.sequences = sequences
      benchmark.forks = forks
      benchmark.budget = memory.budget
      benchmark.disk = memory.disk
      let report = try withProgress { [benchmark] in
        try benchmark.run(context: context, progress: $0)
      }
      print(output.json ? try JSONReport.text(report) : table(report))
    }

    private func shape(calibration: Calibration?) throws -> ModelShape {
      var shape =
        try model.map { try ModelOutline(path: $0).requireShape() }
        ?? ModelShape(
          layers: layers,
          queryHeads: queryHeads ?? kvHeads,
          kvHeads: kvHeads,
          headDim: headDim
        )
      // Rows are random: a calibration is taken for that of the shape.
      shape.fingerprint = calibration?.fingerprint
      return shape
    }

    private func table(_ report: MemoryReport) -> String {
      var table = TextTable([
        ("policy", .left), ("tokens", .right), ("sequences", .right), ("compressed tokens", .right),
        ("bits/value", .right), ("planned", .right), ("measured growth", .right),
        ("of planned", .right), ("float16", .right), ("of float16", .right),
        ("cache in memory", .right), ("on disk", .right), ("forks", .right),
        ("their growth", .right),
      ])
      let growth = Double(report.residentGrowthBytes)
      table.append([
        report.policy,
        "\(report.tokens)",
        "\(report.sequences)",
        "\(report.compressedTokens)",
        NumberText.decimal(report.bitsPerValue, 3),
        NumberText.bytes(report.plannedBytes),
        NumberText.bytes(report.residentGrowthBytes),
        NumberText.percent(growth / Double(max(1, report.plannedBytes))),
        NumberText.bytes(report.float16Bytes),
        NumberText.percent(growth / Double(max(1, report.float16Bytes))),
        NumberText.bytes(report.tiers.memory),
        NumberText.bytes(report.tiers.disk),
        "\(report.forks)",
        NumberText.bytes(report.forkGrowthBytes),
      ])
      return table.text
    }
  }
}
