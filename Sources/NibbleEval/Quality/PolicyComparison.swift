public import NibbleGenerate
public import NibbleKV

/// Quality and recall of several policies on the same text and the same questions: what `eval` and
/// `compare` print.
public struct PolicyComparison {
  /// The model.
  public var model: any DecoderModel
  /// Token ids of the text, by document; empty where only questions are asked.
  public var documents: [[Int]]
  /// Questions; empty where none are asked.
  public var questions: [RecallQuestion]
  /// Threads of the caches; `nil` takes one for each core.
  public var threads: Int?
  /// What the policies may refer to.
  public var catalogue: CodecCatalogue

  /// Creates a comparison.
  public init(
    model: any DecoderModel,
    documents: [[Int]],
    questions: [RecallQuestion],
    threads: Int? = nil,
    catalogue: CodecCatalogue = .standard
  ) {
    self.model = model
    self.documents = documents
    self.questions = questions
    self.threads = threads
    self.catalogue = catalogue
  }

  /// Runs everything; the exact cache runs once.
  ///
  /// - Parameters:
  ///   - policies: At least one.
  ///   - baselines: Indices of policies that ratios of KL divergences refer to, ascending: each row's to the nearest at
  ///     or before it, or else to the first. One beyond the policies traps.
  ///   - progress: Told after every step and every question.
  /// - Returns: One row a policy, in the order given.
  /// - Throws: `KVError`, ``EvaluationError``, or an error of the model.
  public func run(
    policies: [Policy],
    baselines: [Int] = [],
    progress: ProgressHandler = { _ in }
  ) throws -> [QualityRow] {
    let evaluation = try QualityEvaluation(
      model: model,
      policies: policies,
      threads: threads,
      catalogue: catalogue
    )
    let results = try evaluation.run(
      documents: documents,
      baselines: baselines,
      progress: progress
    )
    guard !questions.isEmpty else {
      return results.map { QualityRow(model: model.name, quality: $0) }
    }
    let recall = try RecallEvaluation(model: model, questions: questions)
    let exact = try shares(recall, policy: .exact, progress: progress)
    return try zip(policies, results).map { policy, result in
      var row = QualityRow(model: model.name, quality: result)
      row.questions = questions.count
      row.recallExact = exact.tokens
      row.answersRecalledExact = exact.answers
      // The same codecs, windows and rows give the same answers.
      let own = policy == .exact ? exact : try shares(recall, policy: policy, progress: progress)
      row.recall = own.tokens
      row.answersRecalled = own.answers
      return row
    }
  }

  private func shares(
    _ recall: RecallEvaluation,
    policy: Policy,
    progress: ProgressHandler
  ) throws -> (tokens: Double, answers: Double) {
    let answers = try recall.run(
      policy: policy,
      threads: threads,
      catalogue: catalogue,
      progress: progress
    )
    let tokens = answers.reduce(0) { $0 + $1.tokens }
    let right = answers.reduce(0) { $0 + $1.rightTokens }
    let complete = answers.count { $0.isComplete }
    return (Double(right) / Double(tokens), Double(complete) / Double(answers.count))
  }
}
