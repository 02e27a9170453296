/// The element types of safetensors files.
///
/// Weights are `F32`, `F16` or `BF16`; the others are known so that a file may hold them beside.
enum TensorElement: String, Sendable {
  case bool = "BOOL"
  case float4 = "F4"
  case float6E2M3 = "F6_E2M3"
  case float6E3M2 = "F6_E3M2"
  case uint8 = "U8"
  case int8 = "I8"
  case float8E5M2 = "F8_E5M2"
  case float8E4M3 = "F8_E4M3"
  case float8E8M0 = "F8_E8M0"
  case float8E4M3FNUZ = "F8_E4M3FNUZ"
  case float8E5M2FNUZ = "F8_E5M2FNUZ"
  case int16 = "I16"
  case uint16 = "U16"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case int32 = "I32"
  case uint32 = "U32"
  case float32 = "F32"
  case complex64 = "C64"
  case float64 = "F64"
  case int64 = "I64"
  case uint64 = "U64"

  var bitCount: Int {
    switch self {
    case .float4: 4
    case .float6E2M3, .float6E3M2: 6
    case .bool, .uint8, .int8: 8
    case .float8E5M2, .float8E4M3, .float8E8M0, .float8E4M3FNUZ, .float8E5M2FNUZ: 8
    case .int16, .uint16, .float16, .bfloat16: 16
    case .int32, .uint32, .float32: 32
    case .complex64, .float64, .int64, .uint64: 64
    }
  }

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
