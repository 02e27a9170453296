import NibblePolicy

/// Remembered sequences, found by hash, in the order of their use, with the pages that they hold.
struct PrefixTable: Sendable {
  /// A remembered sequence and how many of its tokens a prompt can use.
  struct Match {
    let id: Int
    let tokens: Int
    let isWhole: Bool
  }

  private(set) var entries: [Int: RememberedSequence] = [:]
  /// Ids by when they were used, the last one at the end.
  private(set) var order: [Int] = []
  private(set) var pages = PageUses()
  var counters = PrefixStatistics()
  private var idsByHash: [PrefixHash: [Int]] = [:]
  private var nextID = 0
  private let geometries: [LayerGeometry]
  private let chain: PrefixChain

  init(plan: Plan, chain: PrefixChain) {
    geometries = plan.layers.indices.map { LayerGeometry(plan: plan, layer: $0) }
    self.chain = chain
  }

  // MARK: - Enter and use

  /// Enters a sequence as the newest; one with the same tokens stays, unless it was cut.
  ///
  /// - Returns: What had to give way.
  mutating func insert(_ sequence: RememberedSequence) -> RememberedSequence? {
    let alike = idsByHash[sequence.hashes[sequence.hashes.count - 1]] ?? []
    let known = alike.first { entries[$0]?.tokens == sequence.tokens }
    if let known, entries[known]?.isCut == false {
      _ = use(known)
      return nil
    }
    let replaced = known.flatMap { remove($0) }
    add(sequence, id: nextID)
    order.append(nextID)
    nextID += 1
    return replaced
  }

  /// A sequence, which counts as used now.
  mutating func use(_ id: Int) -> RememberedSequence? {
    guard let place = order.firstIndex(of: id) else { return nil }
    order.append(order.remove(at: place))
    return entries[id]
  }

  private mutating func add(_ sequence: RememberedSequence, id: Int) {
    for hash in sequence.hashes { idsByHash[hash, default: []].append(id) }
    sequence.state.forEachPage { pages.add($0) }
    entries[id] = sequence
  }

  /// Takes a sequence out, but for its place in the order.
  private mutating func takeOut(_ id: Int) -> RememberedSequence? {
    guard let sequence = entries.removeValue(forKey: id) else { return nil }
    for hash in sequence.hashes {
      idsByHash[hash]?.removeAll { $0 == id }
      if idsByHash[hash]?.isEmpty ?? false { idsByHash[hash] = nil }
    }
    sequence.state.forEachPage { pages.remove($0) }
    return sequence
  }

  mutating func remove(_ id: Int) -> RememberedSequence? {
    order.removeAll { $0 == id }
    return takeOut(id)
  }

  // MARK: - Find

  /// The sequence that serves the most of a prompt; of several, one that needs no cut.
  ///
  /// Whatever begins like the prompt up to a boundary serves it that far, so the deepest boundary that is known decides.
  ///
  /// - Parameters:
  ///   - tokens: What may be used of the prompt.
  ///   - hashes: At all of its boundaries.
  /// - Returns: The sequence; `nil` if none serves.
  func match(_ tokens: ArraySlice<Int32>, hashes: [PrefixHash]) -> Match? {
    for index in hashes.indices.reversed() {
      guard let ids = idsByHash[hashes[index]] else { continue }
      var best: Match?
      for id in ids {
        guard let match = match(tokens, id: id, knownAlike: chain.position(ofBoundary: index))
        else { continue }
        let rank = (match.tokens, match.isWhole ? 1 : 0)
        guard rank > (best?.tokens ?? 0, best?.isWhole ?? false ? 1 : 0) else { continue }
        // Equal hashes are no proof.
        guard entries[id]?.tokens.starts(with: tokens.prefix(match.tokens)) ?? false else {
          continue
        }
        best = match
      }
      if let best { return best }
    }
    return nil
  }

  private func match(_ tokens: ArraySlice<Int32>, id: Int, knownAlike count: Int) -> Match? {
    guard let entry = entries[id] else { return nil }
    var common = min(count, entry.tokens.count, tokens.count)
    while common < min(entry.tokens.count, tokens.count),
      entry.tokens[common] == tokens[tokens.startIndex + common]
    {
      common += 1
    }
    return entry.usableTokens(of: common, geometries: geometries).map {
      Match(id: id, tokens: $0, isWhole: $0 == entry.tokens.count)
    }
  }
}

// MARK: - Make room

extension PrefixTable {
  /// Shortens or forgets sequences, the least recently used first, until their pages have at most `byteLimit` bytes.
  ///
  /// - Returns: What they were before; their pages are let go of with it.
  mutating func evict(to byteLimit: Int) -> [RememberedSequence] {
    var dropped: [RememberedSequence] = []
    while pages.byteCount > byteLimit, let oldest = order.first {
      let excess = pages.byteCount - byteLimit
      let id = order.first { lastOwnPage(of: $0) != nil } ?? oldest
      if let before = shorten(id, by: excess, onlyUnused: false) ?? remove(id) {
        dropped.append(before)
      }
      counters.evictions += 1
    }
    return dropped
  }

  /// Shortens or forgets the least recently used sequence that holds memory which nobody else does.
  ///
  /// - Returns: What it was before; `nil` if there is none.
  mutating func releaseOldest(bytes: Int) -> RememberedSequence? {
    for id in order {
      guard let before = shorten(id, by: bytes, onlyUnused: true) else { continue }
      counters.evictions += 1
      return before
    }
    return nil
  }

  /// Takes pages from a sequence's end until those that are its own have so many bytes; forgets it if no page is left, or if
  /// others have all that is left.
  ///
  /// - Returns: What it was before; `nil` if it has no page of its own.
  private mutating func shorten(
    _ id: Int,
    by bytes: Int,
    onlyUnused: Bool
  ) -> RememberedSequence? {
    guard let kept = pagesLeft(of: id, freeing: bytes, onlyUnused: onlyUnused) else { return nil }
    guard let before = takeOut(id) else { return nil }
    var after = before
    let tokens = geometries[0].sinks + kept * geometries[0].pageTokens
    if kept > 0, after.holds(after: tokens, geometries: geometries) {
      after.keepPages(kept, geometries: geometries, chain: chain)
      add(after, id: id)
      // Whoever shares its last page begins as it does.
      if lastOwnPage(of: id) == nil { _ = takeOut(id) }
    }
    if entries[id] == nil { order.removeAll { $0 == id } }
    return before
  }

  /// How many pages a sequence may keep if so many bytes of its own are to go; `nil` if it has none.
  private mutating func pagesLeft(of id: Int, freeing bytes: Int, onlyUnused: Bool) -> Int? {
    guard let layers = entries[id]?.state.layers.indices, let last = lastOwnPage(of: id) else {
      return nil
    }
    var freed = 0
    var kept: Int?
    for index in (-1...last).reversed() where freed < bytes {
      for layer in layers where isOwn(index, layer: layer, of: id) {
        guard !onlyUnused || entries[id]?.state.layers[layer].holdsAlone(index) ?? false else {
          continue
        }
        freed += entries[id]?.state.layers[layer][page: index]?.byteCount ?? 0
        kept = max(0, index)
      }
    }
    return kept
  }

  /// The last page that no other remembered sequence holds, the sinks being -1; `nil` if there is none.
  private func lastOwnPage(of id: Int) -> Int? {
    guard let layers = entries[id]?.state.layers else { return nil }
    let count = layers.reduce(0) { max($0, $1.pages.count) }
    return (-1..<count).last { index in
      layers.indices.contains { isOwn(index, layer: $0, of: id) }
    }
  }

  private func isOwn(_ index: Int, layer: Int, of id: Int) -> Bool {
    guard let state = entries[id]?.state.layers[layer], index < state.pages.count else {
      return false
    }
    return state[page: index].map(pages.isOnlyOnce) ?? false
  }
}
