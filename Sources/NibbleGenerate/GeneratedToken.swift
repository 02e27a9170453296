/// A token as it leaves a ``TokenStream``.
public struct GeneratedToken: Hashable, Sendable {
  /// The token's id.
  public var id: Int
  /// The text that became certain with this token.
  ///
  /// It may be empty or belong to earlier tokens too: a character can span tokens, and text that
  /// could be the start of a stop string waits. The texts of all tokens joined are the whole text.
  public var text: String
  /// What the cache holds and what the token took.
  public var statistics: TokenStatistics
  /// Why this is the last token; nil if it isn't.
  public var finishReason: FinishReason?
}

/// Why generation ended.
public enum FinishReason: Hashable, Sendable {
  /// This token ends texts; it has no text of its own.
  case stopToken(Int)
  /// The text reached this stop string, which is not part of it.
  case stopString(String)
  /// The options allow no more tokens.
  case maximumTokens
}

/// The cost of a token, measured when it was chosen.
public struct TokenStatistics: Hashable, Sendable {
  /// Tokens in the store; the token just chosen is not among them yet.
  public var cachedTokens: Int
  /// Tokens of the prompt that the cache remembered and that were not computed; 0 but for the first token.
  public var reusedTokens: Int
  /// Tokens whose keys and values are compressed.
  public var compressedTokens: Int
  /// Bytes of the store's pages, tail and sinks.
  public var heldBytes: Int
  /// Bits per value of the store's pages, side information counted.
  public var bitsPerValue: Double
  /// Time for the model's step and the choice; for the first token the whole prompt's.
  public var milliseconds: Double
}
