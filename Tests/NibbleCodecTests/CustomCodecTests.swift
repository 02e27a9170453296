import NibbleCodec
import Testing

/// A host's own codec behind ``StripCodec``.
@Suite struct CustomCodecTests {
  @Test(arguments: [false, true], [false, true])
  func roundTrip(isRotated: Bool, removesMean: Bool) throws {
    var catalogue = CodecCatalogue()
    try catalogue.register(ReversedFloats())
    #expect(catalogue.customNames == ["reversed"])
    var description = try CodecDescription(
      parsing: "reversed",
      customNames: catalogue.customNames
    )
    description.rotation = isRotated ? .hadamard : .none
    description.removesMean = removesMean
    let strip = try catalogue.strip(description, side: .keys, headDim: 24, pageTokens: 48)
    #expect(strip.bytes.total == (48 * 24 * 4 + 3 + 63) / 64 * 64)
    let rows = standardNormal(48 * 24, seed: 1)
    let mean = removesMean ? [Float](repeating: 7, count: 24) : nil
    let decoded = try strip.decode(strip.encode(rows.span, mean: mean), mean: mean)
    for (x, y) in zip(rows, decoded) {
      #expect(isRotated || removesMean ? abs(x - y) < 1e-5 : x == y)
    }
  }

  @Test func itsErrorsAreTyped() throws {
    let failing = FailingCodec()
    let strip = try StripCodec(
      CodecDescription(.custom("failing")),
      side: .values,
      headDim: 8,
      pageTokens: 16,
      custom: failing
    )
    let expected = CodecError.custom(name: "failing", message: "Broken()")
    let rows = [Float](repeating: 1, count: 128)
    #expect(throws: expected) { try strip.encode(rows.span) }
    #expect(throws: expected) {
      _ = try strip.decode([UInt8](repeating: 0, count: strip.bytes.total))
    }
  }

  @Test(arguments: ["", "Upper", "1st", "two words", "linear", "float32", "ünicode"])
  func namesThatAreRefused(name: String) {
    var catalogue = CodecCatalogue()
    #expect(throws: CodecError.self) { try catalogue.register(NamedCodec(name: name, bytes: 1)) }
    #expect(catalogue.customNames.isEmpty)
  }

  @Test func namesAreTakenOnce() throws {
    var catalogue = CodecCatalogue()
    try catalogue.register(NamedCodec(name: "mine", bytes: 1))
    #expect(throws: CodecError.custom(name: "mine", message: "the name is taken")) {
      try catalogue.register(NamedCodec(name: "mine", bytes: 2))
    }
    let unknown = CodecDescription(.custom("mime"))
    #expect(throws: CodecError.unknownCodec(name: "mime", nearest: "mine")) {
      try catalogue.strip(unknown, side: .keys, headDim: 8, pageTokens: 16)
    }
  }

  @Test(arguments: [0, -1, Int.min, Int.max, 16 * 8 * 16 + 1])
  func sizesThatAreRefused(bytes: Int) throws {
    var catalogue = CodecCatalogue()
    try catalogue.register(NamedCodec(name: "mine", bytes: bytes))
    let description = CodecDescription(.custom("mine"))
    let expected = CodecError.custom(
      name: "mine",
      message: "a strip of \(bytes) bytes is not possible"
    )
    #expect(throws: expected) {
      try catalogue.strip(description, side: .keys, headDim: 8, pageTokens: 16)
    }
  }
}

/// Floats, last first, and three bytes that nobody needs.
private struct ReversedFloats: CustomCodec {
  let name = "reversed"

  func byteCount(tokens: Int, headDim: Int) -> Int { tokens * headDim * 4 + 3 }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws {
    #expect(rows.count == tokens * headDim)
    #expect(bytes.count == byteCount(tokens: tokens, headDim: headDim))
    for index in rows.indices {
      let bits = rows[rows.count - 1 - index].bitPattern
      for byte in 0..<4 { bytes[index * 4 + byte] = UInt8(bits >> (8 * byte) & 255) }
    }
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {
    #expect(bytes.count == byteCount(tokens: tokens, headDim: headDim))
    for index in rows.indices {
      let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[index * 4 + $1]) << (8 * $1) }
      rows[rows.count - 1 - index] = Float(bitPattern: bits)
    }
  }
}

private struct Broken: Error {}

private struct FailingCodec: CustomCodec {
  let name = "failing"

  func byteCount(tokens: Int, headDim: Int) -> Int { 64 }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws { throw Broken() }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws { throw Broken() }
}

private struct NamedCodec: CustomCodec {
  let name: String
  let bytes: Int

  func byteCount(tokens: Int, headDim: Int) -> Int { bytes }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws {}

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {}
}
