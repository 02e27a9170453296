import Foundation

/// Chooses tokens from logits: a small deterministic machine around ``SamplingOptions``.
public struct Sampler: Sendable {
  /// The options that were given.
  public let options: SamplingOptions
  private var generator: SplitMix64

  /// Creates a sampler.
  ///
  /// - Throws: ``GenerationError/invalidOption(name:value:expected:)``.
  public init(options: SamplingOptions) throws(GenerationError) {
    try options.validate()
    self.options = options
    generator = SplitMix64(seed: options.seed)
  }

  /// Chooses a token.
  ///
  /// - Parameter logits: `[vocabulary]`, all finite.
  /// - Returns: An index of `logits`.
  /// - Throws: ``GenerationError/nonFiniteLogit(token:value:)``, or
  ///   ``GenerationError/wrongLogitCount(count:expected:)`` if there are none.
  public mutating func sample(_ logits: [Float]) throws(GenerationError) -> Int {
    let best = try Self.highest(logits)
    guard options.temperature > 0, options.topK != 1 else { return best }
    var candidates = candidates(logits, highest: logits[best])
    keepTopP(&candidates)
    keepMinP(&candidates)
    return draw(candidates)
  }

  /// A token that may be chosen, with its probability up to a common factor.
  private struct Candidate {
    var id: Int
    var weight: Double

    /// The order of rank: more probable first, then lower id.
    static func ranksBefore(_ first: Candidate, _ second: Candidate) -> Bool {
      first.weight != second.weight ? first.weight > second.weight : first.id < second.id
    }
  }

  /// The lowest id among those with the highest logit.
  private static func highest(_ logits: [Float]) throws(GenerationError) -> Int {
    guard !logits.isEmpty else { throw .wrongLogitCount(count: 0, expected: 1) }
    var best = 0
    for (id, logit) in logits.enumerated() {
      guard logit.isFinite else { throw .nonFiniteLogit(token: id, value: "\(logit)") }
      if logit > logits[best] { best = id }
    }
    return best
  }

  /// All tokens by id, or the `topK` best by rank.
  private func candidates(_ logits: [Float], highest: Float) -> [Candidate] {
    let temperature = Double(options.temperature)
    var candidates = logits.enumerated().map { id, logit in
      let weight = exp((Double(logit) - Double(highest)) / temperature)
      return Candidate(id: id, weight: weight)
    }
    if options.topK != nil || options.topP != nil {
      candidates.sort(by: Candidate.ranksBefore)
    }
    if let topK = options.topK, topK < candidates.count {
      candidates.removeLast(candidates.count - topK)
    }
    return candidates
  }

  /// Expects candidates by rank.
  private func keepTopP(_ candidates: inout [Candidate]) {
    guard let topP = options.topP, topP < 1 else { return }
    let limit = Double(topP) * candidates.reduce(0) { $0 + $1.weight }
    var sum = 0.0
    for (index, candidate) in candidates.enumerated() {
      sum += candidate.weight
      if sum >= limit {
        candidates.removeLast(candidates.count - index - 1)
        return
      }
    }
  }

  private func keepMinP(_ candidates: inout [Candidate]) {
    guard let minP = options.minP, minP > 0 else { return }
    // The best candidate's weight is exp(0).
    candidates.removeAll { $0.weight < Double(minP) }
  }

  private mutating func draw(_ candidates: [Candidate]) -> Int {
    let total = candidates.reduce(0) { $0 + $1.weight }
    var rest = generator.nextUnit() * total
    for candidate in candidates {
      rest -= candidate.weight
      if rest < 0 { return candidate.id }
    }
    // Rounding may leave a crumb; it belongs to the last candidate that has any weight.
    return candidates.last { $0.weight > 0 }?.id ?? 0
  }
}
