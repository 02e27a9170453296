/// The stored scales of codecs that are written in Swift; Specs/codecs.md, steps that encoders share.
enum BFloat16 {
  static func value(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

  /// A scale as it will be read back: ties to even, and 0 below the normal range.
  static func stored(_ scale: Float) -> (bits: UInt16, value: Float) {
    guard scale >= 1.2e-38 else { return (0, 0) }
    let pattern = scale.bitPattern
    let bits = UInt16((pattern + 0x7fff + (pattern >> 16 & 1)) >> 16)
    return (bits, value(bits))
  }
}
