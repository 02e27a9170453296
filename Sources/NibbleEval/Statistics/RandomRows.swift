import Foundation
import NibbleGenerate

/// Standard normal numbers, the same for a seed on every machine with the same mathematical
/// library.
struct RandomRows {
  private var generator: SplitMix64

  init(seed: UInt64) {
    generator = SplitMix64(seed: seed)
  }

  /// Draws `count` numbers by the method of Box and Muller.
  mutating func normal(_ count: Int) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      var index = 0
      while index < count {
        let bits = generator.next()
        // (0, 1] and [0, 1): the logarithm must stay finite.
        let first = Float(bits >> 40 &+ 1) * 0x1p-24
        let second = Float(bits & 0xFF_FFFF) * 0x1p-24
        let radius = (-2 * log(first)).squareRoot()
        let angle = 2 * Float.pi * second
        buffer[index] = radius * cos(angle)
        if index + 1 < count { buffer[index + 1] = radius * sin(angle) }
        index += 2
      }
      initializedCount = count
    }
  }
}
