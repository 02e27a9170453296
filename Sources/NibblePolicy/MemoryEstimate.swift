/// The bytes of one or several equal sequences at their largest, by what they are spent on.
public struct MemoryEstimate: Hashable, Sendable, Codable {
  /// Codes of sealed pages, with padding.
  ///
  /// Exact rows in sealed pages count as codes.
  public var codes = 0
  /// Tables of sealed pages.
  public var tables = 0
  /// Scales of sealed pages, and the means that sequences keep for codecs that remove them.
  public var scales = 0
  /// Exact pages that are not sealed yet: the recent window, the page that fills up, and a chunk.
  public var tail = 0
  /// The exact pages of the first tokens.
  public var sinks = 0
  /// Working memory of the threads.
  public var scratch = 0
  /// What slabs hold beyond their pages.
  public var slack = 0
  /// Tokens of all sequences that are sealed in a codec other than exact rows, in some layer.
  public var compressedTokens = 0
  /// Bits per value of sealed pages: codes, tables and scales; fewer where sequences share pages.
  public var bitsPerValue = 0.0
  /// Tokens of each sequence.
  public var context = 0
  /// How many sequences there are.
  public var sequences = 1
  /// What a plain float16 cache takes for the same sequences, each by itself.
  public var float16Bytes = 0

  /// All parts together, in bytes.
  public var total: Int { codes + tables + scales + tail + sinks + scratch + slack }

  /// ``total`` for each token of the sequences.
  public var bytesPerToken: Double {
    context == 0 ? 0 : Double(total) / Double(context * sequences)
  }
}
