/// What a sequence holds, of all layers.
///
/// A value: forks copy it and share the pages.
struct SequenceState: Sendable {
  var layers: [LayerState]
  /// Ids of the first tokens, as far as the host has told them.
  var tokens: [Int32] = []

  /// Tokens that every layer has.
  var tokenCount: Int {
    var least = layers.first?.tokenCount ?? 0
    for layer in layers { least = min(least, layer.tokenCount) }
    return least
  }

  /// Takes the ids of the tokens after those that are known.
  mutating func record(_ ids: Span<Int>) throws(KVError) {
    let count = tokenCount
    guard tokens.count + ids.count <= count else {
      throw .positionOutOfRange(position: tokens.count + ids.count, tokens: count)
    }
    for index in ids.indices {
      guard Int32(exactly: ids[index]) ?? -1 >= 0 else {
        throw .invalidOption(
          name: "token \(index)",
          value: "\(ids[index])",
          expected: "0 to \(Int32.max)"
        )
      }
    }
    for index in ids.indices { tokens.append(Int32(ids[index])) }
  }
}
