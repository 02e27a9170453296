public import NibbleGenerate
public import NibbleKV
import NibbleLlama

/// Compares what a model predicts with compressed caches to what it predicts with an exact one.
///
/// Every document goes through the model once with the exact cache and once with each policy's, in
/// lock-step: all advance by one step of tokens before the next step begins, so only the exact
/// cache's logits of one step and those that a thread works on are held. A step has at most as many
/// tokens as the smallest page of the policies, so that a position sees its history compressed as
/// it would in decoding.
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
  /// Advance several policies at once: matrix products and comparisons too, not attention alone.
  private let workers: Workers

  /// Prepares the caches.
  ///
  /// - Parameters:
  ///   - model: The model.
  ///   - policies: At least one.
  ///   - threads: Threads, which results do not depend on; `nil` takes one a core. Several policies
  ///     share them; those of a single one are its cache's.
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
    let exactCache = try KVCache(model: model.shape, policy: .exact, threads: threads)
    let count = min(policies.count, exactCache.threadCount)
    let share = exactCache.threadCount / count
    caches = try policies.map {
      try KVCache(model: model.shape, policy: $0, threads: share, catalogue: catalogue)
    }
    self.exactCache = exactCache
    workers = Workers(count: count)
  }

  /// Feeds the documents through the model.
  ///
  /// - Parameters:
  ///   - documents: Token ids; each document is read with empty caches.
  ///   - baselines: Indices of policies that ratios of KL divergences refer to, ascending: each row's to the nearest at
  ///     or before it, or else to the first. One beyond the policies traps.
  ///   - atCommonPositions: Whether a position counts only once every policy's history holds compressed tokens, so that policies with
  ///     different windows are compared at the same positions.
  ///   - progress: Told after every step, in tokens.
  /// - Returns: One result a policy, in the order of ``policies``.
  /// - Throws: ``EvaluationError``, or an error of the model or of a cache.
  public func run(
    documents: [[Int]],
    baselines: [Int] = [],
    atCommonPositions: Bool = false,
    progress: ProgressHandler = { _ in }
  ) throws -> [QualityResult] {
    try check(documents)
    // Not a question of threads: how a product is cut may show in its last bits.
    guard policies.count > 1 else {
      return try compare(documents, baselines, atCommonPositions, progress)
    }
    return try MatrixProduct.withOneThread {
      try compare(documents, baselines, atCommonPositions, progress)
    }
  }

  /// The same, on as many threads as matrix products have now.
  private func compare(
    _ documents: [[Int]],
    _ baselines: [Int],
    _ atCommonPositions: Bool,
    _ progress: ProgressHandler
  ) throws -> [QualityResult] {
    let total = documents.reduce(0) { $0 + $1.count }
    var done = 0
    var tallies = caches.map { QualityTally(plan: $0.plan) }
    for (index, document) in documents.enumerated() {
      let exact = exactCache.makeSequence()
      let sequences = caches.map { $0.makeSequence() }
      for first in stride(from: 0, to: document.count, by: stepTokens) {
        let step = Step(document: document, index: index, first: first, count: stepTokens)
        let reference = try distributions(of: step, sequence: exact)
        let comparisons = try workers.map(items: sequences.count) { policy in
          try advance(sequences[policy], policy: policies[policy], step: step, reference: reference)
        }
        if !atCommonPositions || comparisons.allSatisfy({ !$0.isEmpty }) {
          for policy in tallies.indices { comparisons[policy].forEach { tallies[policy].add($0) } }
        }
        done += step.tokens.count
        progress(WorkProgress(phase: "text", completed: done, total: total))
      }
      for (policy, sequence) in sequences.enumerated() {
        tallies[policy].endDocument(sequence.statistics)
      }
    }
    return tallies.enumerated().map { index, tally in
      var result = tally.result(
        documents: documents.count,
        tokens: total,
        skipping: caches[index].statistics.skipping
      )
      let baseline = baselines.last { $0 <= index } ?? baselines.first
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

  /// Feeds a step to a policy's cache.
  ///
  /// - Returns: A comparison for each position; none as long as no history is compressed that could be.
  private func advance(
    _ sequence: KVSequence,
    policy: Policy,
    step: Step,
    reference: [TokenDistribution]
  ) throws -> [LogitComparison] {
    let logits = try logits(of: step, sequence: sequence)
    // Pages are sealed before a step's rows are attended to, so this holds for every position of
    // the step.
    guard !sequence.cache.plan.compresses || sequence.statistics.compressedTokens > 0 else {
      return []
    }
    return try logits.withUnsafeBufferPointer { logits in
      try reference.enumerated().map { row, distribution in
        let other = self.row(row, of: logits)
        guard let comparison = distribution.compare(other, next: step.next[row]) else {
          throw nonFinite(step, row: row, policy: policy)
        }
        return comparison
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
