import ArgumentParser
import NibbleEval
import NibbleGenerate
import NibbleKV

struct LogitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits",
    abstract: "Write the logits of token ids and what follows them, to compare hosts bit for bit."
  )

  @OptionGroup var model: ModelOption
  @OptionGroup var policy: PolicyOption
  @OptionGroup var calibration: CalibrationOption

  @Option(help: ArgumentHelp("The token ids to begin with.", valueName: "id,id,..."))
  var ids: NumberList

  @Option(help: "Tokens to generate, always the most probable one.")
  var maxTokens = 32

  @Option(help: "The most tokens of one step.")
  var chunk = 512

  @Option(
    help: ArgumentHelp("The file to write: float32, a row for each token.", valueName: "file")
  )
  var out: String

  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    let run = LogitsRun(
      model: try model.load().model,
      policy: try policy.policy(),
      tokens: ids.numbers,
      options: GenerationOptions(maximumTokens: maxTokens, prefillChunk: chunk),
      threads: threads.given,
      catalogue: try calibration.catalogue()
    )
    try checkFolder(of: out)
    let report = try run.run(path: out)
    print(output.json ? try JSONReport.text(report) : report.generated.commaSeparated)
  }
}
