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

  @Option(help: "Sequences of that context in one cache.")
  var sequences = 1

  @Option(help: "Tokens that all sequences begin with; their pages are held once.")
  var shared = 0

  @Option(
    help: ArgumentHelp(
      "Bytes that there are, such as 8GiB: which contexts and how many sequences fit.",
      valueName: "size"
    )
  )
  var memory: ByteSize?

  @OptionGroup var calibration: CalibrationOption
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    let catalogue = try calibration.catalogue()
    var plan = try MemoryPlan(
      policies: Policy.list(argument: policies),
      shape: shape.shape(calibration: catalogue.calibration),
      question: MemoryPlan.Question(
        contexts: context.numbers,
        chunk: chunk,
        threads: threads.count,
        sequences: sequences,
        shared: shared,
        memory: memory?.count
      ),
      catalogue: catalogue
    )
    if let outline = try shape.outline() { plan.describe(outline) }
    print(output.json ? try JSONReport.text(plan) : text(of: plan))
  }

  private func text(of plan: MemoryPlan) -> String {
    var parts = [table(plan.rows)]
    if !plan.memory.isEmpty { parts.append(table(plan.memory)) }
    var lines = plan.notCovered.map { "not covered: layers \($0.layers): \($0.reason)" }
    lines += plan.notes.map { "note: \($0)" }
    if !lines.isEmpty { parts.append(lines.joined(separator: "\n")) }
    return parts.joined(separator: "\n\n")
  }

  private func table(_ rows: [PlanRow]) -> String {
    var table = TextTable([
      ("policy", .left), ("context", .right), ("sequences", .right), ("bytes", .right),
      ("of float16", .right), ("bytes/token", .right), ("bits/value", .right),
      ("compressed tokens", .right), ("codes", .right), ("tables", .right), ("scales", .right),
      ("tail", .right), ("sinks", .right), ("scratch", .right), ("slack", .right),
      ("sequences that fit", .right),
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
          "\(row.sequences)",
          NumberText.bytes(row.bytes),
          NumberText.percent(share),
          NumberText.decimal(row.bytesPerToken, 0),
          NumberText.decimal(row.bitsPerValue, 3),
          "\(row.compressedTokens)",
        ] + parts.map { NumberText.bytes($0) } + [row.mostSequences.map { "\($0)" } ?? "-"]
      )
    }
    return table.text
  }

  private func table(_ fits: [MemoryPlan.Fit]) -> String {
    var table = TextTable([
      ("policy", .left), ("memory", .right), ("sequences", .right),
      ("longest context that fits", .right), ("bytes", .right),
    ])
    for fit in fits {
      table.append([
        fit.policy,
        NumberText.bytes(fit.memoryBytes),
        "\(fit.sequences)",
        fit.longestContext.map { "\($0)" } ?? "none",
        fit.bytes.map { NumberText.bytes($0) } ?? "-",
      ])
    }
    return table.text
  }
}
