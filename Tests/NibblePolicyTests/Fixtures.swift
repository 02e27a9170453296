import NibbleCodec
import NibblePolicy

/// The folder of example policies that the specification shows.
let exampleFolder =
  #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
  + "/Specs/examples/policies/"

/// Repeats the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

extension ModelShape {
  /// Eight layers with four KV heads of 64 channels.
  static let sample = ModelShape(layers: 8, queryHeads: 8, kvHeads: 4, headDim: 64)
}

/// The error that `body` throws; `nil` if it throws none.
func policyError<Result>(_ body: () throws(PolicyError) -> Result) -> PolicyError? {
  do {
    _ = try body()
    return nil
  } catch {
    return error
  }
}
