import NibbleCodec
import Testing

/// Strips in a page: whole lines, no overlap, every byte accounted for.
@Suite struct PageLayoutTests {
  @Test(arguments: [16, 48, 64, 192, 1024], [8, 24, 64, 80, 128, 512])
  func stripsLieSideBySide(pageTokens: Int, headDim: Int) throws {
    let strips = try everyCodec.compactMap { text -> (key: StripCodec, value: StripCodec)? in
      let description = try codec(text)
      if description.code == .trellis, headDim * min(pageTokens, 64) < 1024 { return nil }
      if let group = description.group, headDim % group != 0 || pageTokens % 64 != 0 { return nil }
      return (
        try StripCodec(description, side: .keys, headDim: headDim, pageTokens: pageTokens),
        try StripCodec(description, side: .values, headDim: headDim, pageTokens: pageTokens)
      )
    }
    // Each head another codec; keys and values are not of one kind either.
    let layout = PageLayout(
      keys: strips.map(\.key),
      values: strips.reversed().map(\.value)
    )
    var taken: [Range<Int>] = []
    for (head, place) in layout.heads.enumerated() {
      let key = layout.keys[head]
      let value = layout.values[head]
      #expect(place.keyCodes % 64 == 0 && place.valueCodes % 64 == 0)
      #expect(place.keySide % 4 == 0 && place.valueSide % 4 == 0)
      taken.append(place.keyCodes..<place.keyCodes + key.bytes.codes)
      taken.append(place.valueCodes..<place.valueCodes + value.bytes.codes)
      taken.append(place.keySide..<place.keySide + key.bytes.tables + key.bytes.scales)
      taken.append(place.valueSide..<place.valueSide + value.bytes.tables + value.bytes.scales)
    }
    taken.sort { ($0.lowerBound, $0.upperBound) < ($1.lowerBound, $1.upperBound) }
    for (left, right) in zip(taken, taken.dropFirst()) {
      #expect(left.upperBound <= right.lowerBound)
    }
    #expect(layout.byteCount % 64 == 0)
    #expect(taken.map(\.upperBound).max() ?? 0 <= layout.byteCount)
    #expect(taken.reduce(0) { $0 + $1.count } + layout.paddingBytes == layout.byteCount)
    #expect(layout.paddingBytes < 64 * layout.heads.count)
    #expect(layout.pageTokens == pageTokens)
  }

  static let designBits: [(text: String, bits: Double)] = [
    ("float32", 32), ("float16", 16), ("bfloat16", 16), ("int8", 8.125), ("linear:8", 8.25),
    ("linear:4", 4.25), ("linear:4 zero_point=false", 4.125), ("linear:3", 3.25),
    ("linear:2", 2.25), ("linear:4 group=32", 5), ("linear:4 axis=channel", 4.5),
    ("rotated:4", 4.125), ("rotated:3", 3.125), ("rotated:2", 2.125),
    ("clustered:4", 4.1484375), ("clustered:4 axis=none", 4.0234375),
  ]

  /// 64 tokens of 128 channels.
  @Test(arguments: designBits)
  func bitsPerValue(text: String, bits: Double) throws {
    for side in KVSide.allCases {
      let strip = try StripCodec(codec(text), side: side, headDim: 128, pageTokens: 64)
      #expect(strip.bitsPerValue == bits)
      #expect(strip.bytes.total == strip.bytes.codes + strip.bytes.tables + strip.bytes.scales)
      #expect(try strip.encode([Float](repeating: 1, count: 8192).span).count == strip.bytes.total)
    }
  }
}
