/// The generator of samplers: 64 bits of state, the same numbers on every machine for a seed.
///
/// Sebastiano Vigna's SplitMix64. Not for secrets.
public struct SplitMix64: RandomNumberGenerator, Hashable, Sendable {
  private var state: UInt64

  /// Creates a generator; equal seeds give equal sequences.
  public init(seed: UInt64) {
    state = seed
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var bits = state
    bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
    bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
    return bits ^ (bits >> 31)
  }

  /// The next number of [0, 1), in steps of 2^-53.
  mutating func nextUnit() -> Double {
    Double(next() >> 11) * 0x1p-53
  }
}
