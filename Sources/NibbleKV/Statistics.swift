/// What a cache holds.
public struct CacheStatistics: Hashable, Sendable {
  /// Bytes of page slabs and of working memory: what the budget limits.
  public let heldBytes: Int
  /// Pages in use by all sequences; a shared page counts once.
  public let pageCount: Int
  /// Living sequences.
  public let sequenceCount: Int
}

/// What a sequence holds.
///
/// Pages that it shares with others count in full.
public struct SequenceStatistics: Hashable, Sendable {
  /// Tokens that every layer has.
  public let tokens: Int
  /// Tokens that are sealed in a codec other than exact rows, in the layer with the most of them.
  public let compressedTokens: Int
  /// Bytes of sealed pages, with the mean rows.
  public let pageBytes: Int
  /// Bytes of exact pages after the sinks.
  public let tailBytes: Int
  /// Bytes of the sink pages.
  public let sinkBytes: Int
  /// Bytes that the same tokens take as float16 rows.
  public let exactBytes: Int
  /// Bits per value of sealed pages, everything in them counted; 0 while nothing is sealed.
  public let bitsPerValue: Double

  /// Everything: pages, tail and sinks.
  public var totalBytes: Int { pageBytes + tailBytes + sinkBytes }
}
