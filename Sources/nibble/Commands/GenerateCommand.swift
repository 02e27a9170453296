import ArgumentParser
import Foundation
import NibbleEval
import NibbleGenerate
import NibbleKV

struct GenerateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Continue a prompt with a compressed cache."
  )

  @OptionGroup var model: ModelOption
  @OptionGroup var policy: PolicyOption
  @OptionGroup var calibration: CalibrationOption

  @Option(help: "The text to continue.")
  var prompt: String?

  @Option(help: ArgumentHelp("A file with the text to continue.", valueName: "file"))
  var promptFile: String?

  @Option(help: "The most tokens to generate.")
  var maxTokens = 256

  @Option(help: "A text that ends generation; may be repeated.")
  var stop: [String] = []

  @Option(help: "0 takes the most probable token, always.")
  var temperature: Float = 0

  @Option(help: "Keep this many of the most probable tokens.")
  var topK: Int?

  @Option(help: "Keep the fewest tokens whose probabilities reach this sum.")
  var topP: Float?

  @Option(help: "Keep tokens with at least this share of the highest probability.")
  var minP: Float?

  @Option(help: "The start of the random sequence.")
  var seed: UInt64 = 0

  @OptionGroup var memory: MemoryOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func validate() throws {
    guard (prompt == nil) != (promptFile == nil) else {
      throw ValidationError("Give the text to continue: --prompt TEXT or --prompt-file FILE.")
    }
  }

  func run() async throws {
    let text = try promptText()
    let options = GenerationOptions(
      maximumTokens: maxTokens,
      sampling: SamplingOptions(
        temperature: temperature,
        topK: topK,
        topP: topP,
        minP: minP,
        seed: seed
      ),
      stopStrings: stop
    )
    try options.validate()
    let policy = try policy.policy()
    var run = GenerationRun(
      host: try model.load(),
      policy: policy,
      options: options,
      threads: threads.given,
      catalogue: try calibration.catalogue()
    )
    run.budget = memory.budget
    run.disk = memory.disk
    if output.json {
      print(try JSONReport.text(try await run.run(prompt: text)))
      return
    }
    printNow(text)
    let report = try await run.run(prompt: text, deliver: printNow)
    printNow("\n")
    printNote(summary(of: report))
  }

  private func promptText() throws -> String {
    if let prompt { return prompt }
    guard let promptFile else { return "" }
    return try PromptFile.text(path: promptFile)
  }

  private func summary(of report: GenerationReport) -> String {
    let first = NumberText.duration(microseconds: report.timeToFirstTokenMicroseconds)
    let speed = NumberText.decimal(report.tokensPerSecond, 1)
    return """

      \(report.promptTokens) prompt tokens and \(report.tokens) generated; \
      first after \(first), then \(speed) tokens/s
      policy \(report.policy): cache \(NumberText.bytes(report.cacheBytes)) instead of \
      \(NumberText.bytes(report.exactCacheBytes)) in float16; \
      \(report.compressedTokens) tokens compressed, \
      \(NumberText.decimal(report.bitsPerValue, 3)) bits per value
      \(NumberText.bytes(report.tiers.memory)) in memory, slabs and working memory; \
      \(NumberText.bytes(report.tiers.disk)) on disk
      """
  }
}
