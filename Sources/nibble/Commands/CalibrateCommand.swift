import ArgumentParser
import NibbleEval
import NibbleKV

struct CalibrateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract:
      "Measure a model's queries, keys and values on text, for policies with rotation=aligned."
  )

  @OptionGroup var model: ModelOption
  @OptionGroup var source: SourceOptions

  @Option(help: ArgumentHelp("The calibration to write.", valueName: "file"))
  var out: String

  @Option(
    help: ArgumentHelp(
      "A folder for the exact rows too: keys.f32 and values.f32, float32 rows of one head each.",
      valueName: "dir"
    )
  )
  var rows: String?

  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    try checkFolder(of: out)
    let host = try model.load()
    let run = CalibrationRun(
      model: host.model,
      documents: try source.sources.documents(for: host),
      threads: threads.given,
      rowFolder: rows
    )
    let calibration = try withProgress { try run.run(progress: $0) }
    try calibration.write(to: out)
    let report = run.report(on: calibration, path: out)
    if output.json {
      print(try JSONReport.text(report))
    } else {
      print(summary(of: report))
    }
  }

  private func summary(of report: CalibrationReport) -> String {
    """
    \(report.path): \(report.layers) layers, \(report.kvHeads) KV heads, \
    from \(report.tokens) tokens of \(report.documents) documents
    coding gain: keys \(NumberText.decimal(report.codingGainOfKeys, 1)) dB, \
    values \(NumberText.decimal(report.codingGainOfValues, 1)) dB
    fingerprint of \(report.model): \(report.fingerprint ?? "none")
    """
  }
}
