/// Where the strips of all KV heads lie in a page.
///
/// Head after head: codes of the keys, codes of the values, side data of the keys, side data of the values, a summary of the
/// keys where pages have them, padded to whole 64-byte lines.
public struct PageLayout: Sendable {
  /// Bytes of one page: a multiple of 64.
  public let byteCount: Int
  package let heads: [Head]
  package let keys: [StripCodec]
  package let values: [StripCodec]
  /// Bytes of the summaries of all heads.
  package let summaryBytes: Int

  /// Byte offsets of one head's strips.
  package struct Head: Sendable {
    package let keyCodes: Int
    package let valueCodes: Int
    package let keySide: Int
    package let valueSide: Int
    /// Where the summary of the keys lies; `nil` for exact rows, hosts' codecs, and pages without summaries.
    package let summary: Int?

    package init(
      keyCodes: Int,
      valueCodes: Int,
      keySide: Int,
      valueSide: Int,
      summary: Int? = nil
    ) {
      self.keyCodes = keyCodes
      self.valueCodes = valueCodes
      self.keySide = keySide
      self.valueSide = valueSide
      self.summary = summary
    }
  }

  /// Lays out a page of `keys.count` heads.
  ///
  /// - Parameters:
  ///   - keys: The codec of each KV head's keys.
  ///   - values: The codec of each KV head's values; as many as `keys`, for the same page length.
  public init(keys: [StripCodec], values: [StripCodec]) {
    self.init(keys: keys, values: values, hasSummaries: false)
  }

  package init(keys: [StripCodec], values: [StripCodec], hasSummaries: Bool) {
    var offset = 0
    var summaryBytes = 0
    var heads: [Head] = []
    for (key, value) in zip(keys, values) {
      let valueCodes = offset + key.codeBytes
      let keySide = valueCodes + value.codeBytes
      let valueSide = keySide + key.sideBytes
      let summary = valueSide + value.sideBytes
      let isSummarized = hasSummaries && key.isCodes && value.custom == nil
      heads.append(
        Head(
          keyCodes: offset,
          valueCodes: valueCodes,
          keySide: keySide,
          valueSide: valueSide,
          summary: isSummarized ? summary : nil
        )
      )
      let bytes = isSummarized ? key.summaryBytes : 0
      summaryBytes += bytes
      offset = (summary + bytes + 63) & ~63
    }
    byteCount = offset
    self.summaryBytes = summaryBytes
    self.heads = heads
    self.keys = keys
    self.values = values
  }

  /// Bytes that pad heads to whole lines.
  public var paddingBytes: Int {
    byteCount - summaryBytes
      - zip(keys, values).reduce(0) { $0 + $1.0.bytes.total + $1.1.bytes.total }
  }

  /// Tokens of a page.
  public var pageTokens: Int { keys.first?.pageTokens ?? 0 }
}
