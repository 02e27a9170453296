import NibbleFiles

extension TensorElement {
  /// Whether weights may have this type.
  var isWeight: Bool {
    self == .float32 || self == .float16 || self == .bfloat16
  }
}

/// Widens 16-bit weights to float32; little-endian machines only, like Swift's platforms.
enum WeightConversion {
  /// Writes values from an index on, as many as the output holds.
  static func widen(
    _ element: TensorElement,
    _ bytes: [UInt8],
    from index: Int,
    into output: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(element == .bfloat16 || element == .float16)
    precondition(2 * (index + output.count) <= bytes.count)
    bytes.withUnsafeBytes { bytes in
      for place in 0..<output.count {
        let bits = bytes.loadUnaligned(fromByteOffset: 2 * (index + place), as: UInt16.self)
        output[place] =
          element == .bfloat16 ? Float(bitPattern: UInt32(bits) << 16) : half(bits)
      }
    }
  }

  /// The value of a float16, exactly, without branches: `Float16` is not on every platform.
  @inline(__always)
  static func half(_ bits: UInt16) -> Float {
    let magnitude = UInt32(bits & 0x7FFF) << 13
    // The exponent's bias differs by 112; the product also normalizes subnormal numbers.
    let finite = (Float(bitPattern: magnitude) * 0x1p112).bitPattern
    let special = magnitude | 0x7F80_0000
    let sign = UInt32(bits & 0x8000) << 16
    return Float(bitPattern: (magnitude >= 0x0F80_0000 ? special : finite) | sign)
  }
}
