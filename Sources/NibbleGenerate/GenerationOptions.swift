/// When generation stops, how tokens are chosen, and how the prompt is read.
public struct GenerationOptions: Hashable, Sendable {
  /// The most tokens that are generated; at least 1.
  public var maximumTokens: Int
  /// How the next token is chosen.
  public var sampling: SamplingOptions
  /// Tokens that end the text, besides the tokenizer's.
  public var stopTokens: Set<Int>
  /// Texts that end the text, even where they span tokens; they are not part of it.
  public var stopStrings: [String]
  /// Goes on after the tokenizer's end tokens.
  public var ignoresEndTokens: Bool
  /// The most prompt tokens that go through the model in one step, 1 to 1,024.
  public var prefillChunk: Int

  /// Creates options.
  public init(
    maximumTokens: Int = 256,
    sampling: SamplingOptions = .greedy,
    stopTokens: Set<Int> = [],
    stopStrings: [String] = [],
    ignoresEndTokens: Bool = false,
    prefillChunk: Int = 512
  ) {
    self.maximumTokens = maximumTokens
    self.sampling = sampling
    self.stopTokens = stopTokens
    self.stopStrings = stopStrings
    self.ignoresEndTokens = ignoresEndTokens
    self.prefillChunk = prefillChunk
  }

  /// Checks every value.
  ///
  /// - Throws: ``GenerationError/invalidOption(name:value:expected:)``.
  public func validate() throws(GenerationError) {
    guard maximumTokens >= 1 else {
      throw .invalidOption(
        name: "maximumTokens",
        value: "\(maximumTokens)",
        expected: "at least 1"
      )
    }
    guard (1...1024).contains(prefillChunk) else {
      throw .invalidOption(name: "prefillChunk", value: "\(prefillChunk)", expected: "1 to 1024")
    }
    guard !stopStrings.contains("") else {
      throw .invalidOption(name: "stopStrings", value: "an empty string", expected: "text")
    }
    try sampling.validate()
  }
}
