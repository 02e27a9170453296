import MLX
import MLXLMCommon
import NibbleKV

/// Numbers with a seed: SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }

  /// Numbers between -1 and 1, as a type rounds them.
  mutating func array(_ shape: [Int], dtype: DType = .float16) -> MLXArray {
    let numbers = (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &self) }
    return MLXArray(numbers, shape).asType(dtype)
  }
}

func zeros(_ shape: [Int]) -> MLXArray {
  MLXArray([Float](repeating: 0, count: shape.reduce(1, *)), shape)
}

/// The numbers of keys and values, one after the other.
func numbers(_ pair: (MLXArray, MLXArray)) -> [Float] {
  pair.0.asArray(Float.self) + pair.1.asArray(Float.self)
}
