/// The block floating-point formats of ``CodecDescription/Code/microscaling(_:)``.
public enum MicroscalingFormat: String, Hashable, Sendable, CaseIterable {
  /// 32 values of 4 bits (E2M1) share a power of two.
  case mxfp4
  /// 16 values of 4 bits (E2M1) share an E4M3 scale, relative to one float of the strip.
  case nvfp4
  /// 32 values of 8 bits share a power of two.
  case mxint8

  /// Bits of one value, without scales.
  public var bits: Int { self == .mxint8 ? 8 : 4 }

  /// Neighbouring channels of a token that share a scale; the last block of a row may be shorter.
  public var blockLength: Int { self == .nvfp4 ? 16 : 32 }
}

/// The number formats of microscaling, each as the unsigned bits that are stored.
///
/// Open Compute Project, *Microscaling formats (MX) specification* 1.0 (2023) and *8-bit floating point
/// specification* 1.0 (2023).
enum SmallFloat {
  /// Magnitudes of E2M1 by their three lower bits; bit 3 is the sign.
  static let e2m1Magnitudes: [Float] = [0, 0.5, 1, 1.5, 2, 3, 4, 6]

  static func fromE2M1(_ code: UInt8) -> Float {
    let magnitude = e2m1Magnitudes[Int(code & 7)]
    return code & 8 == 0 ? magnitude : -magnitude
  }

  /// Nearest, ties to the even code, saturating at 6.
  static func toE2M1(_ value: Float) -> UInt8 {
    let x = value.magnitude
    var code: UInt8 = x > 0.25 ? 1 : 0
    if x >= 0.75 { code = 2 }
    if x > 1.25 { code = 3 }
    if x >= 1.75 { code = 4 }
    if x > 2.5 { code = 5 }
    if x >= 3.5 { code = 6 }
    if x > 5 { code = 7 }
    return value.sign == .minus ? code | 8 : code
  }

  /// 2^(code - 127).
  static func fromE8M0(_ code: UInt8) -> Float {
    code == 0 ? 0x1p-127 : Float(bitPattern: UInt32(code) << 23)
  }

  /// The power of two of a block's elements: that of its largest magnitude, less that of the largest element.
  static func toE8M0(largest: Float, elementExponent: Int) -> UInt8 {
    guard largest > 0 else { return 0 }
    return UInt8(max(0, min(254, Int(largest.exponent) - elementExponent + 127)))
  }

  static func fromE4M3(_ code: UInt8) -> Float {
    let exponent = Int(code >> 3 & 15)
    let mantissa = Float(code & 7)
    if exponent == 0 { return mantissa * 0x1p-9 }
    return (8 + mantissa) * Float(sign: .plus, exponent: exponent - 10, significand: 1)
  }

  /// Nearest, ties to the even code, of a value that is not negative; saturating at 448.
  static func toE4M3(_ value: Float) -> UInt8 {
    if value >= 448 { return 0x7e }
    if value < 0x1p-6 { return UInt8((value * 0x1p9).rounded(.toNearestOrEven)) }
    let exponent = Int(value.exponent)
    let step = Float(sign: .plus, exponent: exponent - 3, significand: 1)
    let eighths = Int((value / step).rounded(.toNearestOrEven))
    return UInt8(min((exponent + 7) * 8 + eighths - 8, 0x7e))
  }
}
