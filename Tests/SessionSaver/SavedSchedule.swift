package import NibbleKV

/// What is saved, save by save; the test makes the same.
package enum SavedSchedule {
  package static let tokensOfSave = 7
  /// After so many saves a new sequence takes the place of the old one.
  package static let mostSaves = 40
  static let shape = ModelShape(layers: 3, queryHeads: 2, kvHeads: 2, headDim: 32)

  package static func cache() throws -> KVCache {
    try KVCache(
      model: shape,
      policy: Policy(argument: "k=rotated:4+v=linear:4@k.mean=removed@page_tokens=16@recent=16"),
      threads: 1
    )
  }

  /// Appends what save number `save`, from 0, adds.
  package static func append(save: Int, to sequence: KVSequence) throws {
    let count = tokensOfSave * shape.kvHeads * shape.headDim
    for layer in 0..<shape.layers {
      let keys = (0..<count).map { value(save, layer, $0) }
      let values = (0..<count).map { value(save, layer, $0 + count) }
      try sequence.append(keys: keys.span, values: values.span, layer: layer)
    }
    let ids = (save * tokensOfSave..<(save + 1) * tokensOfSave).map { $0 }
    try sequence.record(tokens: ids.span)
  }

  /// A number from -1 to 1 that follows from its place.
  private static func value(_ save: Int, _ layer: Int, _ index: Int) -> Float {
    var bits = UInt64(save &* 1_000_003 &+ layer &* 7919 &+ index) &* 0x9e37_79b9_7f4a_7c15
    bits ^= bits >> 29
    bits = bits &* 0xbf58_476d_1ce4_e5b9
    return Float(bits >> 40) / Float(1 << 23) - 1
  }
}
