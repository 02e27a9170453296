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

  /// Forgets the tokens from `count` on, all or none.
  mutating func truncate(to count: Int, in cache: KVCache) throws(KVError) {
    let sizes = layers.indices.map { index in
      cache.writer(layer: index).pageBytesNeeded(toTruncate: layers[index], to: count)
    }
    var wanted: [Int: Int] = [:]
    for case let size? in sizes { wanted[size, default: 0] += 1 }
    var pages = wanted.isEmpty ? [:] : try cache.pool.take(wanted)
    var changed = self
    for index in layers.indices {
      let page = sizes[index].flatMap { pages[$0]?.popLast() }
      try cache.writer(layer: index).truncate(&changed.layers[index], to: count, page: page)
    }
    changed.tokens.removeLast(max(0, tokens.count - count))
    self = changed
  }

  /// Takes the ids of the newest tokens; does nothing if ids before them are not known.
  mutating func record(_ ids: Span<Int>) throws(KVError) {
    let count = tokenCount
    guard ids.count <= count else {
      throw .positionOutOfRange(position: ids.count, tokens: count)
    }
    guard tokens.count == count - ids.count else { return }
    for index in ids.indices {
      do throws(KVError) {
        tokens.append(try Self.id(ids[index], at: index))
      } catch {
        tokens.removeLast(index)
        throw error
      }
    }
  }

  /// An id as it is kept.
  static func id(_ token: Int, at index: Int) throws(KVError) -> Int32 {
    guard let id = Int32(exactly: token), id >= 0 else {
      throw .invalidOption(name: "token \(index)", value: "\(token)", expected: "0 to \(Int32.max)")
    }
    return id
  }
}
