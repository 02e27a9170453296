import Synchronization

extension KVSequence {
  /// Moves all pages to the cache's disk tier.
  ///
  /// Whoever knows that a sequence will be idle can make room at once; under pressure the cache does so by itself. The sequence
  /// stays usable: an append brings its exact pages back, and each call of attention some of its layer's pages if the budget has room
  /// for them all; the others are read one by one, with the same result bit for bit.
  ///
  /// - Throws: ``KVError/file(_:)`` or ``KVError/diskBudgetExceeded(neededBytes:heldBytes:limitBytes:)``, with the pages that
  ///   had no place still in memory; ``KVError/invalidOption(name:value:expected:)`` if the cache has no disk tier.
  /// - Complexity: O(bytes of the pages that are in memory).
  public func moveToDisk() throws(KVError) {
    guard let spill = cache.spill else {
      throw .invalidOption(name: "disk", value: "nil", expected: "a disk tier")
    }
    try withState { state throws(KVError) in
      var moved = 0
      for index in state.layers.indices {
        let pages = -1..<state.layers[index].pages.count
        try cache.mover(layer: index)
          .spill(pages, of: &state.layers[index], to: spill, moved: &moved)
      }
    }
  }

  /// Moves all pages to a file, if nobody uses the sequence right now.
  ///
  /// - Returns: How many left memory.
  func moveToDiskIfIdle(_ spill: SpillFile) -> Int {
    withStateIfIdle { state in
      var moved = 0
      do throws(KVError) {
        for index in state.layers.indices {
          let pages = -1..<state.layers[index].pages.count
          try cache.mover(layer: index)
            .spill(pages, of: &state.layers[index], to: spill, moved: &moved)
        }
      } catch {
        cache.pool.telemetry.noteNotMoved(error)
      }
      return moved
    } ?? 0
  }
}

extension KVSequence {
  /// Encodes pages again before their time, if nobody uses the sequence right now.
  ///
  /// - Returns: How many.
  func ageIfIdle() -> Int {
    withStateIfIdle { $0.ageEarly(in: cache) } ?? 0
  }
}

extension SequenceState {
  /// Brings pages of a layer back into memory for attention, if the budget has room for the sequence as a whole.
  ///
  /// One that is longer is read page by page: to bring back some of it would cost others theirs with every call.
  mutating func load(layer: Int, of cache: KVCache) throws(KVError) {
    guard layers[layer].storedCount > 0 else { return }
    if let limit = cache.budget.byteLimit, byteCount > limit { return }
    try cache.mover(layer: layer).loadForAttention(&layers[layer])
  }

  /// Bytes of all pages, wherever they are.
  private var byteCount: Int {
    layers.reduce(0) { sum, layer in
      layer.pages.reduce(sum + (layer.sinkPage?.byteCount ?? 0)) { $0 + $1.byteCount }
    }
  }

  /// Runs `body`, and if the budget refuses, again without the pages in memory that appends leave alone, or with fewer bits in them: what
  /// is left to a sequence in use when nothing else can make room.
  mutating func makingRoom(
    in cache: KVCache,
    _ body: (inout SequenceState) throws(KVError) -> Void
  ) throws(KVError) {
    while true {
      do throws(KVError) {
        return try body(&self)
      } catch {
        guard case .budgetExceeded = error else { throw error }
        guard moveSettledPages(of: cache) > 0 || ageEarly(in: cache) > 0 else { throw error }
      }
    }
  }

  /// Encodes pages in memory again before their time.
  ///
  /// - Returns: How many.
  mutating func ageEarly(in cache: KVCache) -> Int {
    guard cache.plan.hasAges else { return 0 }
    var count = 0
    for index in layers.indices { count += cache.writer(layer: index).ageEarly(&layers[index]) }
    return count
  }

  private mutating func moveSettledPages(of cache: KVCache) -> Int {
    guard let spill = cache.spill else { return 0 }
    var moved = 0
    do throws(KVError) {
      for index in layers.indices {
        let mover = cache.mover(layer: index)
        let pages = 0..<mover.geometry.settledPages(of: layers[index])
        try mover.spill(pages, of: &layers[index], to: spill, moved: &moved)
      }
    } catch {
      cache.pool.telemetry.noteNotMoved(error)
    }
    return moved
  }
}
