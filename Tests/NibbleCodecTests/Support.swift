import Foundation
import NibbleCodec

/// Repeatable random numbers (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// Standard normal values by Marsaglia's polar method.
func standardNormal(_ count: Int, seed: UInt64) -> [Float] {
  var random = SeededRandom(seed)
  var result: [Float] = []
  while result.count < count {
    let x = Double.random(in: -1..<1, using: &random)
    let y = Double.random(in: -1..<1, using: &random)
    let s = x * x + y * y
    guard s > 0, s < 1 else { continue }
    let factor = (-2 * log(s) / s).squareRoot()
    result.append(Float(x * factor))
    result.append(Float(y * factor))
  }
  return Array(result.prefix(count))
}

/// Reads what ``CodecDescription/description`` prints: a name, then options.
func codec(_ text: String, customNames: [String] = []) throws -> CodecDescription {
  let words = text.split(separator: " ").map(String.init)
  var description = try CodecDescription(parsing: words[0], customNames: customNames)
  for word in words.dropFirst() {
    let halves = word.split(separator: "=").map(String.init)
    try description.set(option: halves[0], to: halves[1])
  }
  return description
}

/// Every built-in code, with every modifier at least once.
let everyCodec = [
  "float32", "float16", "bfloat16", "int8", "int8 group=16", "int8 axis=channel mean=removed",
  "int8 rotation=hadamard", "int8 zero_point=true", "linear:2", "linear:3", "linear:4", "linear:8",
  "linear:2 zero_point=false", "linear:4 zero_point=false", "linear:8 zero_point=false",
  "linear:4 axis=channel", "linear:3 axis=channel group=32", "linear:4 group=32",
  "linear:4 rotation=hadamard", "linear:2 clip=search",
  "linear:3 axis=channel zero_point=false clip=search", "linear:8 axis=channel zero_point=false",
  "clustered:2",
  "clustered:3", "clustered:4", "clustered:4 axis=none", "clustered:2 axis=channel",
  "clustered:4 axis=none rotation=hadamard", "rotated:2", "rotated:3", "rotated:4",
  "rotated:4 group=16", "rotated:3 mean=removed", "trellis:1", "trellis:2", "trellis:3",
  "trellis:4",
  "trellis:4 rotation=none mean=removed", "bcq:2", "bcq:3", "bcq:4", "bcq:4 group=32",
  "bcq:3 blocks=tokens", "bcq:4 axis=channel blocks=tokens mean=removed",
  "bcq:2 axis=channel group=16 blocks=tokens rotation=hadamard",
  "linear:4 scales=balanced", "trellis:3 scales=balanced", "clustered:4 scales=balanced",
  "bcq:4 group=32 scales=balanced", "rotated:2 scales=balanced mean=removed",
  "linear:3 outliers=1", "clustered:4 scales=balanced outliers=0.5", "trellis:2 outliers=2",
  "linear:4 axis=channel group=32 outliers=0.1",
  "microscaling", "microscaling format=nvfp4 rotation=hadamard", "microscaling format=mxint8",
  "pyramid:2", "pyramid:4 mean=removed", "seeded",
]
