import ArgumentParser
import Foundation
import NibbleEval
import NibbleKV

struct ReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Measure codecs and policies, and draw everything on one page.",
    discussion: """
      The page is one HTML file that needs no network. Without --policies, the presets are shown.
      """
  )

  @Option(help: ArgumentHelp("The page to write.", valueName: "file.html"))
  var out: String

  @Option(
    help: ArgumentHelp(
      "A folder for each plot as SVG and PNG too.",
      discussion: "PNG needs rsvg-convert, of Debian's librsvg2-bin.",
      valueName: "dir"
    )
  )
  var png: String?

  @Flag(help: "Measure less: under a minute with the embedded model.")
  var quick = false

  @Option(help: "Policies to show, separated by commas: files of a tuner, short forms, presets.")
  var policies: String?

  @Option(help: "What is tried on each layer and KV head by itself.")
  var probe = "rotated:2"

  @Option(help: "Tokens of the contexts that are timed, separated by commas.")
  var contexts: NumberList?

  @OptionGroup var model: ModelOption
  @OptionGroup var calibration: CalibrationOption
  @OptionGroup var source: SourceOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    try checkFolder(of: out)
    let plots = try png.map { try PlotFolder($0) }
    var run = ReportRun(
      comparison: try policyComparison(
        model: model,
        source: source,
        threads: threads,
        calibration: calibration
      ),
      probe: try Policy(argument: probe)
    )
    run.policies = try policies.map { try Policy.list(argument: $0) } ?? []
    run.effort = effort
    var report = try withProgress { [run] in try run.run(progress: $0) }
    try report.page.write(to: out)
    report.path = out
    if let plots { report.plots = try plots.write(report.figures) }
    if output.json {
      print(try JSONReport.text(report))
    } else {
      ([out] + report.plots).forEach { print("written: \($0)") }
    }
  }

  private var effort: ReportEffort {
    var effort = quick ? ReportEffort.quick : .standard
    if let tokens = source.maxTextTokens { effort.textTokens = tokens }
    if let contexts { effort.contexts = contexts.numbers }
    return effort
  }
}
