public import ArgumentParser
import Foundation
import NibbleEval
import NibbleKV

struct TuneCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tune",
    abstract: "Choose a codec for every layer and KV head, for a budget of bytes.",
    discussion: """
      Documents are parted: some choose, others check. What was measured is kept in the file of --record, so a run that was cut off \
      goes on where it was, and one for another budget measures only what is new.
      """
  )

  @Option(
    help:
      "Bits per value (4.0bits), a share of float16 (0.25x), or bytes at a context (2GiB@128k).",
    transform: TuningBudget.init(parsing:)
  )
  var budget: TuningBudget

  @Option(help: ArgumentHelp("The policy file to write.", valueName: "file.yaml"))
  var out: String

  @Option(help: ArgumentHelp("A page with plots to write.", valueName: "file.html"))
  var report: String?

  @Option(
    help: ArgumentHelp(
      "What was measured, to go on from. Without it, the policy file's name and .record.",
      valueName: "file"
    )
  )
  var record: String?

  @Option(help: "Page length, sinks, recent tokens and exact rows, as a policy.")
  var start = "float16"

  @Option(
    help: "The codecs to choose from, separated by commas. Without it, the best at their bits."
  )
  var codecs: String?

  @Option(help: "What gets a codec of its own: heads or layers.")
  var groups: PolicyTuner.Grouping?

  @Option(help: "What is to be small: logits (KL divergence) or attention (error of its outputs).")
  var measure: PolicyTuner.Measure?

  @Flag(help: "Leave the numbers of sinks and recent tokens as they are.")
  var keepWindows = false

  @Option(help: "Tokens of the context that bytes are counted for, unless the budget names one.")
  var context: Int?

  @Option(
    name: .customLong("least-same-top-1"),
    help: "The share of equal predictions below which a warning is printed."
  )
  var leastSameTop1 = 0.95

  @Option(help: "How documents are parted: equal seeds part alike.")
  var seed: UInt64 = 1

  @OptionGroup var model: ModelOption
  @OptionGroup var calibration: CalibrationOption
  @OptionGroup var source: SourceOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  /// Tokens to choose by: some minutes with the embedded model.
  private static let tuningTokens = 12_288

  func run() throws {
    try checkFolder(of: out)
    if let report { try checkFolder(of: report) }
    let host = try model.load()
    var sources = source.sources
    let tokens = sources.tokenLimit ?? Self.tuningTokens
    sources.tokenLimit = nil
    var tuner = PolicyTuner(
      model: host.model,
      budget: budget,
      text: TuningText(try sources.documents(for: host), tokens: tokens, seed: seed)
    )
    tuner.start = try Policy(argument: start)
    tuner.ladder = try codecs.map { TuningLadder(try Policy.list(argument: $0)) }
    tuner.grouping = groups
    tuner.measure = measure
    tuner.triesWindows = !keepWindows
    tuner.leastSameTop1 = leastSameTop1
    tuner.threads = threads.given
    tuner.catalogue = try calibration.catalogue()
    tuner.recordPath = record ?? out + ".record"
    if let context = context ?? host.contextLength { tuner.context = context }
    let outcome = try withProgress { [tuner] bar in
      try withoutActuallyEscaping(bar) { try tuner.run(progress: $0) }
    }
    try write(outcome)
  }

  private func write(_ outcome: TuningOutcome) throws {
    var outcome = outcome
    try outcome.write(to: out)
    outcome.report.policyFile = out
    if let report {
      try outcome.report.page.write(to: report)
      outcome.report.path = report
    }
    if output.json {
      print(try JSONReport.text(outcome.report))
    } else {
      print(outcome.report.summary)
      ([out] + [report].compactMap(\.self)).forEach { print("written: \($0)") }
    }
  }
}

extension PolicyTuner.Grouping: ExpressibleByArgument {}
extension PolicyTuner.Measure: ExpressibleByArgument {}
