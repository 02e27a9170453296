/// How the next token is chosen from the logits.
///
/// Filters apply in this order: temperature, `topK`, `topP`, `minP`; each sees the probabilities
/// that the one before left, scaled to sum to 1. Equal logits rank by token id, lower first, so a
/// seed gives the same tokens on every machine that computes the same logits.
public struct SamplingOptions: Hashable, Sendable {
  /// Divides the logits; 0 means the most probable token, always.
  public var temperature: Float
  /// Keeps this many of the most probable tokens; nil keeps all.
  public var topK: Int?
  /// Keeps the fewest most probable tokens whose probabilities reach this sum; nil keeps all.
  public var topP: Float?
  /// Keeps tokens with at least this share of the highest probability; nil keeps all.
  public var minP: Float?
  /// The start of the random sequence.
  public var seed: UInt64

  /// Creates options.
  ///
  /// - Parameters:
  ///   - temperature: Finite, at least 0.
  ///   - topK: At least 1, or nil.
  ///   - topP: Above 0, at most 1, or nil.
  ///   - minP: From 0 to 1, or nil.
  ///   - seed: Any number.
  public init(
    temperature: Float = 1,
    topK: Int? = nil,
    topP: Float? = nil,
    minP: Float? = nil,
    seed: UInt64 = 0
  ) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.seed = seed
  }

  /// The most probable token, always.
  public static let greedy = SamplingOptions(temperature: 0)

  /// Checks every value.
  ///
  /// - Throws: ``GenerationError/invalidOption(name:value:expected:)``.
  public func validate() throws(GenerationError) {
    guard temperature.isFinite, temperature >= 0 else {
      throw .invalidOption(
        name: "temperature",
        value: "\(temperature)",
        expected: "a finite number, at least 0"
      )
    }
    if let topK, topK < 1 {
      throw .invalidOption(name: "topK", value: "\(topK)", expected: "at least 1")
    }
    if let topP, !(topP > 0 && topP <= 1) {
      throw .invalidOption(name: "topP", value: "\(topP)", expected: "above 0, at most 1")
    }
    if let minP, !(minP >= 0 && minP <= 1) {
      throw .invalidOption(name: "minP", value: "\(minP)", expected: "from 0 to 1")
    }
  }
}
