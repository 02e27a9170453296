import ArgumentParser
import NibbleEval
import NibbleKV

/// Text and questions of an evaluation.
struct SourceOptions: ParsableArguments {
  @Option(help: ArgumentHelp("UTF-8 text, or a .json array of texts.", valueName: "file"))
  var text: String?

  @Option(
    help: ArgumentHelp(
      "Token ids instead of text: a JSON array of integers, or of such arrays.",
      valueName: "file"
    )
  )
  var tokens: String?

  @Option(
    help: ArgumentHelp("Questions: JSON lines of {\"prompt\", \"answer\"}.", valueName: "file")
  )
  var questions: String?

  @Option(help: "Read the first documents only.")
  var documents: Int?

  @Option(
    name: [.customLong("max-text-tokens"), .customLong("positions")],
    help: "Read the first tokens of the text only."
  )
  var maxTextTokens: Int?

  @Option(help: "Ask the first questions only.")
  var maxQuestions: Int?

  func validate() throws {
    if text != nil, tokens != nil {
      throw ValidationError("Give either --text or --tokens, not both.")
    }
  }

  var sources: EvaluationSources {
    EvaluationSources(
      text: text,
      tokens: tokens,
      questions: questions,
      documentLimit: documents,
      tokenLimit: maxTextTokens,
      questionLimit: maxQuestions
    )
  }
}

/// The model, the text and the questions that policies are compared on.
func policyComparison(
  model: ModelOption,
  source: SourceOptions,
  threads: ThreadsOption,
  calibration: CalibrationOption
) throws -> PolicyComparison {
  let host = try model.load()
  return PolicyComparison(
    model: host.model,
    documents: try source.sources.documents(for: host),
    questions: try source.sources.recallQuestions(for: host),
    threads: threads.given,
    catalogue: try calibration.catalogue()
  )
}
