/// Where the strips of all KV heads lie in a page.
///
/// Head after head: codes of the keys, codes of the values, side data of the keys, side data of the values, padded to whole
/// 64-byte lines.
public struct PageLayout: Sendable {
  /// Bytes of one page: a multiple of 64.
  public let byteCount: Int
  package let heads: [Head]
  package let keys: [StripCodec]
  package let values: [StripCodec]

  /// Byte offsets of one head's strips.
  package struct Head: Sendable {
    package let keyCodes: Int
    package let valueCodes: Int
    package let keySide: Int
    package let valueSide: Int

    package init(keyCodes: Int, valueCodes: Int, keySide: Int, valueSide: Int) {
      self.keyCodes = keyCodes
      self.valueCodes = valueCodes
      self.keySide = keySide
      self.valueSide = valueSide
    }
  }

  /// Lays out a page of `keys.count` heads.
  ///
  /// - Parameters:
  ///   - keys: The codec of each KV head's keys.
  ///   - values: The codec of each KV head's values; as many as `keys`, for the same page length.
  public init(keys: [StripCodec], values: [StripCodec]) {
    var offset = 0
    var heads: [Head] = []
    for (key, value) in zip(keys, values) {
      let valueCodes = offset + key.codeBytes
      let keySide = valueCodes + value.codeBytes
      let valueSide = keySide + key.sideBytes
      heads.append(
        Head(keyCodes: offset, valueCodes: valueCodes, keySide: keySide, valueSide: valueSide)
      )
      offset = (valueSide + value.sideBytes + 63) & ~63
    }
    byteCount = offset
    self.heads = heads
    self.keys = keys
    self.values = values
  }

  /// Bytes that pad heads to whole lines.
  public var paddingBytes: Int {
    byteCount - zip(keys, values).reduce(0) { $0 + $1.0.bytes.total + $1.1.bytes.total }
  }

  /// Tokens of a page.
  public var pageTokens: Int { keys.first?.pageTokens ?? 0 }
}
