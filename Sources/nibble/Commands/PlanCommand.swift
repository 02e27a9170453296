import ArgumentParser
import NibbleEval
import NibbleKV

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "What a context costs in bytes, without running anything."
  )

  @OptionGroup var shape: ShapeOptions

  @Option(help: "The policies, separated by commas.")
  var policies = Policy.presetNames.joined(separator: ",")

  @Option(help: "Tokens; several are separated by commas.")
  var context = NumberList([4_096, 32_768, 131_072])

  @Option(help: "Tokens that a prefill appends at once.")
  var chunk = 512

  @OptionGroup var calibration: CalibrationOption
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    let catalogue = try calibration.catalogue()
    let model = try shape.shape(calibration: catalogue.calibration)
    var rows: [PlanRow] = []
    for policy in try Policy.list(argument: policies) {
      for context in context.numbers {
        rows.append(
          try PlanRow(
            policy: policy,
            shape: model,
            context: context,
            chunk: chunk,
            threads: threads.count,
            catalogue: catalogue
          )
        )
      }
    }
    print(output.json ? try JSONReport.text(RowReport(rows: rows)) : table(rows))
  }

  private func table(_ rows: [PlanRow]) -> String {
    var table = TextTable([
      ("policy", .left), ("context", .right), ("bytes", .right), ("of float16", .right),
      ("bytes/token", .right), ("bits/value", .right), ("compressed tokens", .right),
      ("codes", .right), ("tables", .right), ("scales", .right), ("tail", .right),
      ("sinks", .right), ("scratch", .right), ("slack", .right),
    ])
    for row in rows {
      let parts = [
        row.parts.codes, row.parts.tables, row.parts.scales, row.parts.tail, row.parts.sinks,
        row.parts.scratch, row.slack,
      ]
      let share = row.float16Bytes > 0 ? Double(row.bytes) / Double(row.float16Bytes) : nil
      table.append(
        [
          row.policy,
          "\(row.context)",
          NumberText.bytes(row.bytes),
          NumberText.percent(share),
          NumberText.decimal(row.bytesPerToken, 0),
          NumberText.decimal(row.bitsPerValue, 3),
          "\(row.compressedTokens)",
        ] + parts.map { NumberText.bytes($0) }
      )
    }
    return table.text
  }
}

struct PolicyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "policy",
    abstract: "Look into policies.",
    subcommands: [Explain.self]
  )

  struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print a policy's plan for a model, with the reason for every line."
    )

    @Argument(help: "The policy.")
    var policy: String

    @OptionGroup var shape: ShapeOptions
    @OptionGroup var calibration: CalibrationOption
    @OptionGroup var output: OutputOption

    func run() throws {
      let catalogue = try calibration.catalogue()
      let plan = try Plan(
        policy: try Policy(argument: policy),
        shape: try shape.shape(calibration: catalogue.calibration),
        catalogue: catalogue
      )
      if output.json {
        print(try JSONReport.text(PolicyExplanation(plan: plan)))
      } else {
        print(plan.explanation, terminator: "")
      }
    }
  }
}
