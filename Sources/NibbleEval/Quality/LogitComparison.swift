import Foundation

/// The distribution that a row of logits stands for, prepared for comparisons.
struct TokenDistribution {
  /// The logits' maximum is subtracted, so the largest is 0.
  let shifted: [Double]
  /// exp(shifted) / sum.
  let probabilities: [Double]
  /// log Σ exp(shifted).
  let logSum: Double
  /// The most probable token; the lowest id among equals.
  let top: Int

  /// - Returns: `nil` if a logit is not finite.
  init?(logits: UnsafeBufferPointer<Float>) {
    guard let row = ShiftedRow(logits: logits) else { return nil }
    shifted = logits.map { Double($0) - row.maximum }
    let weights = shifted.map { exp($0) }
    let sum = weights.reduce(0, +)
    probabilities = weights.map { $0 / sum }
    logSum = log(sum)
    top = row.top
  }

  /// −log of the token's probability.
  func negativeLogLikelihood(of token: Int) -> Double {
    logSum - shifted[token]
  }

  /// Compares another cache's logits for the same position with these.
  ///
  /// - Parameters:
  ///   - logits: As many as this distribution has.
  ///   - next: The token that really follows, if one does.
  /// - Returns: `nil` if a logit is not finite.
  func compare(_ logits: UnsafeBufferPointer<Float>, next: Int?) -> LogitComparison? {
    guard let row = ShiftedRow(logits: logits) else { return nil }
    var sum = 0.0
    var cross = 0.0
    for index in shifted.indices {
      let other = Double(logits[index]) - row.maximum
      sum += exp(other)
      cross += probabilities[index] * (shifted[index] - other)
    }
    let otherLogSum = log(sum)
    return LogitComparison(
      // Rounding may leave a crumb below zero, which the divergence never is.
      divergence: max(0, cross - logSum + otherLogSum),
      sameTop: row.top == top,
      negativeLogLikelihood: next.map { otherLogSum - (Double(logits[$0]) - row.maximum) },
      exactNegativeLogLikelihood: next.map(negativeLogLikelihood)
    )
  }
}

/// What two caches predict for the token after one position.
public struct LogitComparison: Hashable, Sendable {
  /// KL(exact ‖ compressed) in nats.
  public var divergence: Double
  /// Whether both have the same most probable token; the lowest id among equals.
  public var sameTop: Bool
  /// −log of the probability that the compressed cache gives to the token that follows.
  public var negativeLogLikelihood: Double?
  /// The same for the exact cache.
  public var exactNegativeLogLikelihood: Double?

  /// Compares two rows of logits.
  ///
  /// The result is `nil` if a logit is not finite, or if the rows are empty, differ in length, or
  /// do not have `next`.
  ///
  /// - Parameters:
  ///   - exact: Logits with the exact cache, one a token of the vocabulary.
  ///   - compressed: As many logits with the compressed cache.
  ///   - next: The token that really follows, if one does.
  public init?(exact: [Float], compressed: [Float], next: Int?) {
    guard exact.count == compressed.count else { return nil }
    if let next, !exact.indices.contains(next) { return nil }
    let result = exact.withUnsafeBufferPointer { exact in
      compressed.withUnsafeBufferPointer { compressed in
        TokenDistribution(logits: exact)?.compare(compressed, next: next)
      }
    }
    guard let result else { return nil }
    self = result
  }

  init(
    divergence: Double,
    sameTop: Bool,
    negativeLogLikelihood: Double?,
    exactNegativeLogLikelihood: Double?
  ) {
    self.divergence = divergence
    self.sameTop = sameTop
    self.negativeLogLikelihood = negativeLogLikelihood
    self.exactNegativeLogLikelihood = exactNegativeLogLikelihood
  }
}

/// The largest logit and the first token that has it.
private struct ShiftedRow {
  var maximum: Double
  var top: Int

  init?(logits: UnsafeBufferPointer<Float>) {
    guard let first = logits.first else { return nil }
    var best = first
    var top = 0
    var isFinite = true
    for (index, logit) in logits.enumerated() {
      isFinite = isFinite && logit.isFinite
      if logit > best { (best, top) = (logit, index) }
    }
    guard isFinite else { return nil }
    maximum = Double(best)
    self.top = top
  }
}

/// The most probable token of a row of logits; the lowest id among equals.
func topToken(_ logits: [Float]) -> Int? {
  logits.withUnsafeBufferPointer { ShiftedRow(logits: $0)?.top }
}
