public import NibbleGenerate
public import NibbleKV

/// Compares what a model predicts with compressed caches to what it predicts with an exact one.
///
/// Every document goes through the model once with the exact cache and once with each policy's, in
/// lock-step: all advance by one step of tokens before the next step begins, so no more than two
/// steps' logits are held. A step has at most as many tokens as the smallest page of the policies,
/// so that a position sees its history compressed as it would in decoding.
///
/// Positions count once a policy's history holds compressed tokens; for a policy that compresses
/// nothing, all count.
public struct QualityEvaluation {
  /// The model.
  public let model: any DecoderModel
  /// The policies to compare, in the order of the results.
  public let policies: [Policy]
  /// Tokens of one step.
  public let stepTokens: Int

  private let exactCache: KVCache
  private let caches: [KVCache]

  /// Prepares the caches.
  ///
  /// - Parameters:
  ///   - model: The model.
  ///   - policies: At least one.
  ///   - threads: Threads of the caches, which results do not depend on; `nil` takes one a core.
  ///   - catalogue: The codecs that the policies may name.
  /// - Throws: `KVError` if a policy does not fit the model, or
  ///   ``EvaluationError/nothingToMeasure(what:)``.
  public init(
    model: any DecoderModel,
    policies: [Policy],
    threads: Int? = nil,
    catalogue: CodecCatalogue = .standard
  ) throws {
    guard let smallestPage = policies.map(\.pageTokens).min() else {
      throw EvaluationError.nothingToMeasure(what: "no policies are given")
    }
    self.model = model
    self.policies = policies
    stepTokens = smallestPage
    exactCache = try KVCache(model: model.shape, policy: .exact, threads: threads)
    caches = try policies.map {
      try KVCache(model: model.shape, policy: $0, threads: threads, catalogue: catalogue)
    }
  }

  /// Feeds the documents through the model.
  ///
  /// - Parameters:
  ///   - documents: Token ids; each document is read with empty caches.
  ///   - baseline: The index of the policy that ratios of KL divergences refer to, or `nil`.
  ///   - progress: Told after every step, in tokens.
  /// - Returns: One result a policy, in the order of ``policies``.
  /// - Throws: ``EvaluationError``, or an error of the model or of a cache.
  public func run(
    documents: [[Int]],
    baseline: Int? = nil,
    progress: ProgressHandler = { _ in }
  ) throws -> [QualityResult] {
    try check(documents)
    let total = documents.reduce(0) { $0 + $1.count }
    var done = 0
    var tallies = caches.map { QualityTally(plan: $0.plan) }
    for (index, document) in documents.enumerated() {
      let exact = exactCache.makeSequence()
      let sequences = caches.map { $0.makeSequence() }
      for first in stride(from: 0, to: document.count, by: stepTokens) {
        let step = Step(document: document, index: index, first: first, count: stepTokens)
        let reference = try distributions(of: step, sequence: exact)
        for (policy, sequence) in sequences.enumerated() {
          try advance(sequence, step: step, reference: reference, tally: &tallies[policy])
        }
        done += step.tokens.count
        progress(WorkProgress(phase: "text", completed: done, total: total))
      }
      for (policy, sequence) in sequences.enumerated() {
        tallies[policy].endDocument(sequence.statistics)
      }
    }
    return tallies.map { tally in
      var result = tally.result(documents: documents.count, tokens: total)
      result.divergenceRatio = baseline.flatMap { tally.ratio(to: tallies[$0]) }
      return result
    }
  }

  private func check(_ documents: [[Int]]) throws(EvaluationError) {
    guard documents.contains(where: { !$0.isEmpty }) else {
      throw .nothingToMeasure(what: "the text has no tokens")
    }
    let size = model.vocabularySize
    for (index, document) in documents.enumerated() {
      if let token = document.first(where: { $0 < 0 || $0 >= size }) {
        throw .tokenOutOfRange(token: token, document: index, vocabularySize: size)
      }
    }
  }
}

// MARK: - One step

extension QualityEvaluation {
  /// Consecutive tokens of one document.
  private struct Step {
    let document: Int
    let first: Int
    let tokens: [Int]
    /// The token after each; the last one of a document has none.
    let next: [Int?]

    init(document: [Int], index: Int, first: Int, count: Int) {
      self.document = index
      self.first = first
      let end = min(first + count, document.count)
      tokens = Array(document[first..<end])
      next = (first..<end).map { $0 + 1 < document.count ? document[$0 + 1] : nil }
    }
  }

  private func distributions(of step: Step, sequence: KVSequence) throws -> [TokenDistribution] {
    let logits = try logits(of: step, sequence: sequence)
    return try logits.withUnsafeBufferPointer { logits in
      try step.tokens.indices.map { row in
        guard let distribution = TokenDistribution(logits: self.row(row, of: logits)) else {
          throw nonFinite(step, row: row, policy: Policy.exact)
        }
        return distribution
      }
    }
  }

  private func advance(
    _ sequence: KVSequence,
    step: Step,
    reference: [TokenDistribution],
    tally: inout QualityTally
  ) throws {
    let logits = try logits(of: step, sequence: sequence)
    // Pages are sealed before a step's rows are attended to, so this holds for every position of
    // the step.
    guard !tally.compresses || sequence.statistics.compressedTokens > 0 else { return }
    try logits.withUnsafeBufferPointer { logits in
      for (row, distribution) in reference.enumerated() {
        let other = self.row(row, of: logits)
        guard let comparison = distribution.compare(other, next: step.next[row]) else {
          throw nonFinite(step, row: row, policy: tally.policy)
        }
        tally.add(comparison)
      }
    }
  }

  private func logits(of step: Step, sequence: KVSequence) throws -> [Float] {
    let logits = try model.forward(tokens: step.tokens, store: sequence, logits: .all)
    let expected = step.tokens.count * model.vocabularySize
    guard logits.count == expected else {
      throw EvaluationError.wrongLogitCount(count: logits.count, expected: expected)
    }
    return logits
  }

  private func row(
    _ row: Int,
    of logits: UnsafeBufferPointer<Float>
  ) -> UnsafeBufferPointer<Float> {
    let size = model.vocabularySize
    return UnsafeBufferPointer(rebasing: logits[row * size..<(row + 1) * size])
  }

  private func nonFinite(_ step: Step, row: Int, policy: Policy) -> EvaluationError {
    .nonFiniteLogit(policy: policy.label, document: step.document, position: step.first + row)
  }
}
