/// What a cache holds.
public struct CacheStatistics: Hashable, Sendable {
  /// Bytes of page slabs and of working memory: what the budget limits.
  public let heldBytes: Int
  /// Pages in memory that sequences use; a shared page counts once.
  public let pageCount: Int
  /// Bytes of the disk tier that are in use.
  public let diskBytes: Int
  /// Bytes of the pages that lie there; LZ4 makes exact rows shorter.
  public let diskPageBytes: Int
  /// Living sequences.
  public let sequenceCount: Int
  /// What is kept for later prompts.
  public let prefixes: PrefixStatistics
  /// What attention has left out so far.
  public let skipping: SkippingCounts
}

/// What attention attended to and what it left out, over all calls of a cache whose policy has a `skipBelow` above 0.
///
/// Only sealed pages of built-in codecs count, once for each KV head and block of up to 64 query rows that saw them.
public struct SkippingCounts: Hashable, Sendable {
  /// Pages whose keys were read.
  public let attendedPages: Int
  /// Pages that were left out by their summaries.
  public let skippedPages: Int
  /// Stretches of up to 64 tokens and 16 query rows whose values were read, in pages that were attended to.
  public let attendedStretches: Int
  /// Stretches whose values were left out because their weights were too small.
  public let skippedStretches: Int

  static let none = SkippingCounts(
    attendedPages: 0,
    skippedPages: 0,
    attendedStretches: 0,
    skippedStretches: 0
  )

  static func + (a: SkippingCounts, b: SkippingCounts) -> SkippingCounts {
    SkippingCounts(
      attendedPages: a.attendedPages + b.attendedPages,
      skippedPages: a.skippedPages + b.skippedPages,
      attendedStretches: a.attendedStretches + b.attendedStretches,
      skippedStretches: a.skippedStretches + b.skippedStretches
    )
  }
}

/// What a sequence holds.
///
/// Pages that it shares with others count in full.
public struct SequenceStatistics: Hashable, Sendable {
  /// Tokens that every layer has.
  public let tokens: Int
  /// Tokens that are sealed in a codec other than exact rows, in the layer with the most of them.
  public let compressedTokens: Int
  /// Bytes of sealed pages, with the mean rows, wherever they are.
  public let pageBytes: Int
  /// Bytes of exact pages after the sinks.
  public let tailBytes: Int
  /// Pages of all layers that lie in a file.
  public let storedPages: Int
  /// Bytes of the sink pages.
  public let sinkBytes: Int
  /// Bytes that the same tokens take as float16 rows.
  public let exactBytes: Int
  /// Bits per value of sealed pages, everything in them counted; 0 while nothing is sealed.
  public let bitsPerValue: Double

  /// Everything: pages, tail and sinks.
  public var totalBytes: Int { pageBytes + tailBytes + sinkBytes }
}
