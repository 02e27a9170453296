import CNibble
import NibbleCodec
import Testing

/// Half precision and bfloat16 against the language's own types and against the rule in integers.
@Suite struct NumberFormatTests {
  static let patterns = (0...UInt16.max).map { $0 }

  #if !(os(macOS) && arch(x86_64))
  @Test func everyHalfIsWidened() {
    var wide = [Float](repeating: 0, count: Self.patterns.count)
    nibble_widen_float16(Self.patterns, Self.patterns.count, &wide)
    for (pattern, value) in zip(Self.patterns, wide) {
      let truth = Float(Float16(bitPattern: pattern))
      let isEqual = truth.isNaN ? value.isNaN : value.bitPattern == truth.bitPattern
      if !isEqual { Issue.record("\(pattern): \(value), not \(truth)") }
    }
  }

  @Test func everyHalfSurvives() throws {
    let halves = Self.patterns.map(Float16.init(bitPattern:)).filter(\.isFinite)
    let bits = try stored(halves.map(Float.init), as: .float16)
    for (half, stored) in zip(halves, bits) where half.bitPattern != stored {
      Issue.record("\(half) is stored as \(stored)")
    }
  }

  @Test func floatsAreRoundedToHalves() throws {
    var random = SeededRandom(1)
    var values = Self.floats(&random).filter { $0.magnitude <= 65504 }
    // The middles between neighbours, where ties go to even, and the floats beside them.
    for pattern in UInt16(0)..<0x7bff {
      let low = Float(Float16(bitPattern: pattern))
      let middle = (low + Float(Float16(bitPattern: pattern + 1))) / 2
      values += [middle, -middle, middle.nextUp, middle.nextDown]
    }
    let bits = try stored(values, as: .float16)
    for (value, stored) in zip(values, bits) where Float16(value).bitPattern != stored {
      Issue.record("\(value) is stored as \(stored), not \(Float16(value).bitPattern)")
    }
  }
  #endif

  @Test func everyBFloatIsWidenedAndSurvives() throws {
    var wide = [Float](repeating: 0, count: Self.patterns.count)
    nibble_widen_bfloat16(Self.patterns, Self.patterns.count, &wide)
    for (pattern, value) in zip(Self.patterns, wide) {
      #expect(value.bitPattern == UInt32(pattern) << 16)
    }
    let finite = wide.filter(\.isFinite)
    let bits = try stored(finite, as: .bfloat16)
    #expect(bits == finite.map { UInt16($0.bitPattern >> 16) })
  }

  @Test func floatsAreRoundedToBFloats() throws {
    var random = SeededRandom(2)
    let limit = CodecDescription.bfloat16.magnitudeLimit
    for (value, stored) in try Self.pairs(Self.floats(&random).filter { $0.magnitude <= limit }) {
      let low = Float(bitPattern: value.bitPattern & 0xffff_0000)
      let high = Float(bitPattern: low.bitPattern &+ 0x1_0000)
      let toLow = (value - low).magnitude
      let toHigh = (high - value).magnitude
      let isLowEven = low.bitPattern >> 16 & 1 == 0
      let nearest = toLow < toHigh || (toLow == toHigh && isLowEven) ? low : high
      if stored != nearest { Issue.record("\(value) is stored as \(stored), not \(nearest)") }
    }
  }

  private static func pairs(_ values: [Float]) throws -> [(Float, Float)] {
    let bits = try NumberFormatTests().stored(values, as: .bfloat16)
    return Array(zip(values, bits.map { Float(bitPattern: UInt32($0) << 16) }))
  }

  /// Finite floats of all exponents.
  private static func floats(_ random: inout SeededRandom) -> [Float] {
    (0..<200_000).compactMap { _ in
      let value = Float(bitPattern: UInt32(truncatingIfNeeded: random.next()))
      return value.isFinite ? value : nil
    }
  }

  /// The 16-bit patterns that a strip of values stores: rows one after the other.
  private func stored(_ values: [Float], as description: CodecDescription) throws -> [UInt16] {
    let strip = try StripCodec(description, side: .values, headDim: 512, pageTokens: 64)
    var bits: [UInt16] = []
    for start in stride(from: 0, to: values.count, by: strip.valueCount) {
      let slice = values[start..<min(values.count, start + strip.valueCount)]
      let rows = Array(slice) + [Float](repeating: 0, count: strip.valueCount - slice.count)
      let bytes = try strip.encode(rows.span)
      for index in slice.indices.map({ 2 * ($0 - start) }) {
        bits.append(UInt16(bytes[index]) | UInt16(bytes[index + 1]) << 8)
      }
    }
    return bits
  }
}
