public import NibbleGenerate
public import NibbleKV

/// A question whose answer stands in its prompt, as token ids.
public struct RecallQuestion: Hashable, Sendable {
  /// The text before the answer.
  public var prompt: [Int]
  /// What the model should say.
  public var answer: [Int]

  /// Creates a question; both parts need at least one token.
  public init(prompt: [Int], answer: [Int]) {
    self.prompt = prompt
    self.answer = answer
  }
}

/// How much of one answer a model recalled.
public struct RecallAnswer: Hashable, Sendable {
  /// Tokens of the answer.
  public let tokens: Int
  /// Of these, tokens that were the most probable ones, given the prompt and the answer before them.
  public let rightTokens: Int

  /// Whether greedy generation gives exactly this answer.
  public var isComplete: Bool { rightTokens == tokens }
}

/// Asks a model for what its history holds.
///
/// The prompt is fed in steps of at most a page, then the right answer token by token, as in decoding; a token counts as
/// right when it was the most probable one.
public struct RecallEvaluation {
  /// The model.
  public let model: any DecoderModel
  /// The questions.
  public let questions: [RecallQuestion]

  /// Checks the questions.
  ///
  /// - Throws: ``EvaluationError``.
  public init(model: any DecoderModel, questions: [RecallQuestion]) throws(EvaluationError) {
    guard !questions.isEmpty else { throw .nothingToMeasure(what: "there are no questions") }
    let size = model.vocabularySize
    for (index, question) in questions.enumerated() {
      guard !question.prompt.isEmpty, !question.answer.isEmpty else {
        throw .nothingToMeasure(what: "question \(index) has an empty prompt or answer")
      }
      let tokens = question.prompt + question.answer
      if let token = tokens.first(where: { $0 < 0 || $0 >= size }) {
        throw .tokenOutOfRange(token: token, document: index, vocabularySize: size)
      }
    }
    self.model = model
    self.questions = questions
  }

  /// Asks all questions with one policy.
  ///
  /// - Parameters:
  ///   - policy: What the cache does to the history.
  ///   - threads: Threads of the cache; `nil` takes one for each core.
  ///   - catalogue: The codecs that the policy may name.
  ///   - progress: Told after every question.
  /// - Returns: For each question, how much of the answer was recalled.
  /// - Throws: An error of the model or of the cache.
  public func run(
    policy: Policy,
    threads: Int? = nil,
    catalogue: CodecCatalogue = .standard,
    progress: ProgressHandler = { _ in }
  ) throws -> [RecallAnswer] {
    let cache = try KVCache(
      model: model.shape,
      policy: policy,
      threads: threads,
      catalogue: catalogue
    )
    let phase = "questions, \(policy.label)"
    return try questions.enumerated().map { index, question in
      let answer = try ask(question, in: cache.makeSequence(), step: policy.pageTokens)
      progress(WorkProgress(phase: phase, completed: index + 1, total: questions.count))
      return answer
    }
  }

  private func ask(
    _ question: RecallQuestion,
    in sequence: KVSequence,
    step: Int
  ) throws -> RecallAnswer {
    var logits: [Float] = []
    for first in stride(from: 0, to: question.prompt.count, by: step) {
      let end = min(first + step, question.prompt.count)
      logits = try model.forward(
        tokens: Array(question.prompt[first..<end]),
        store: sequence,
        logits: end == question.prompt.count ? .last : .none
      )
    }
    var right = 0
    for (index, token) in question.answer.enumerated() {
      if topToken(logits) == token { right += 1 }
      guard index + 1 < question.answer.count else { break }
      logits = try model.forward(tokens: [token], store: sequence, logits: .last)
    }
    return RecallAnswer(tokens: question.answer.count, rightTokens: right)
  }
}
