internal import CNibble

/// A number format that rows may be appended in: `Float`, `Float16` or ``BFloat16``.
public protocol KVElement: BitwiseCopyable, Sendable {
  /// Widens values to 32 bits. Every value of the three formats has an exact counterpart.
  static func widened(_ values: Span<Self>) -> [Float]
}

extension Float: KVElement {
  /// The values themselves.
  public static func widened(_ values: Span<Float>) -> [Float] {
    values.withUnsafeBufferPointer { Array($0) }
  }
}

#if !(os(macOS) && arch(x86_64))
extension Float16: KVElement {
  /// Half precision to 32 bits.
  public static func widened(_ values: Span<Float16>) -> [Float] {
    [Float](unsafeUninitializedCapacity: values.count) { result, count in
      values.withUnsafeBytes { bytes in
        nibble_widen_float16(
          bytes.baseAddress?.assumingMemoryBound(to: UInt16.self),
          values.count,
          result.baseAddress
        )
      }
      count = values.count
    }
  }
}
#endif

/// A bfloat16: the upper half of a `Float`.
public struct BFloat16: KVElement, Hashable {
  /// Sign, eight bits of exponent, seven of mantissa.
  public var bitPattern: UInt16

  /// Takes the bits as they are.
  public init(bitPattern: UInt16) {
    self.bitPattern = bitPattern
  }

  /// Rounds to the nearest, ties to even.
  public init(_ value: Float) {
    let bits = value.bitPattern
    if value.isNaN {
      bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x40
    } else {
      bitPattern = UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ (bits >> 16 & 1)) >> 16)
    }
  }

  /// bfloat16 to 32 bits.
  public static func widened(_ values: Span<BFloat16>) -> [Float] {
    [Float](unsafeUninitializedCapacity: values.count) { result, count in
      values.withUnsafeBytes { bytes in
        nibble_widen_bfloat16(
          bytes.baseAddress?.assumingMemoryBound(to: UInt16.self),
          values.count,
          result.baseAddress
        )
      }
      count = values.count
    }
  }
}
