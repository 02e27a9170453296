import NibbleFiles

extension TensorElement {
  /// Whether weights may have this type.
  var isWeight: Bool {
    self == .float32 || self == .float16 || self == .bfloat16
  }
}

/// Widens stored weights to float32; little-endian machines only, like Swift's platforms.
enum WeightConversion {
  /// Writes `output.count` values that begin at a byte of `bytes`.
  ///
  /// The bytes need not be aligned. Both ranges are checked by the caller.
  static func widen(
    _ element: TensorElement,
    _ bytes: UnsafeRawPointer,
    into output: UnsafeMutableBufferPointer<Float>
  ) {
    switch element {
    case .float32:
      UnsafeMutableRawBufferPointer(output)
        .copyMemory(from: UnsafeRawBufferPointer(start: bytes, count: output.count * 4))
    case .bfloat16:
      for index in 0..<output.count {
        let bits = bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
        output[index] = Float(bitPattern: UInt32(bits) << 16)
      }
    default:
      for index in 0..<output.count {
        output[index] = half(bytes.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
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
