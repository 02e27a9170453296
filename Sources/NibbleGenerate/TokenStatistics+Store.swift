import NibbleKV

extension TokenStatistics {
  /// Nothing held, nothing measured.
  init() {
    self.init(
      cachedTokens: 0,
      reusedTokens: 0,
      compressedTokens: 0,
      heldBytes: 0,
      bitsPerValue: 0,
      milliseconds: 0
    )
  }

  /// What a store holds now.
  ///
  /// Stores other than sequences of a cache are counted as plain float32 rows.
  init(store: any KeyValueStore) {
    self.init()
    cachedTokens = store.tokenCount
    if let sequence = store as? KVSequence {
      let statistics = sequence.statistics
      compressedTokens = statistics.compressedTokens
      heldBytes = statistics.totalBytes
      bitsPerValue = statistics.bitsPerValue
    } else {
      let shape = store.shape
      heldBytes = cachedTokens * shape.layers * shape.kvHeads * shape.headDim * 2 * 4
      bitsPerValue = 32
    }
  }
}

extension ModelShape {
  /// Whether keys and values of the other shape fit, whatever its windows are.
  func holds(_ other: ModelShape) -> Bool {
    layers == other.layers && queryHeads == other.queryHeads && kvHeads == other.kvHeads
      && headDim == other.headDim
  }

  /// The numbers, for an error message.
  var summary: String {
    "\(layers) layers, \(queryHeads) query heads, \(kvHeads) KV heads of dimension \(headDim)"
  }
}
