import NibblePolicy
import Synchronization

/// Sequences that were remembered, to be found again by how they begin.
///
/// An entry is a sequence as it was: it shares its pages with the sequence that it was taken of and with those that continue it. Entries
/// are found by the hashes at their page boundaries, and compared token by token before they are used.
final class PrefixIndex: Sendable {
  private let plan: Plan
  private let byteLimit: Int
  private let state = Mutex(State())

  init(plan: Plan, byteLimit: Int) {
    self.plan = plan
    self.byteLimit = byteLimit
  }

  var statistics: PrefixStatistics {
    state.withLock { state in
      var statistics = state.counters
      statistics.sequences = state.entries.count
      statistics.bytes = state.pages.byteCount
      return statistics
    }
  }

  /// Remembers a sequence all of whose tokens are known; the one that has the same tokens already stays as it is.
  ///
  /// - Complexity: O(tokens + pages).
  func remember(_ sequence: SequenceState) {
    guard byteLimit > 0, sequence.isWhole, sequence.tokens.count == sequence.tokenCount else {
      return
    }
    let hashes = PrefixHash.chain(of: sequence.tokens[...], plan: plan)
    guard !hashes.isEmpty else { return }
    var entry = Entry(sequence: sequence, hashes: hashes)
    // Encoded again by whoever goes on, with the same result.
    for layer in entry.sequence.layers.indices { entry.sequence.layers[layer].ahead = nil }
    // What is dropped goes outside the lock: its pages go back to the pool.
    let dropped = state.withLock { state in
      state.insert(entry)
      var dropped: [Entry] = []
      while state.pages.byteCount > byteLimit, let oldest = state.removeOldest() {
        dropped.append(oldest)
      }
      return dropped
    }
    withExtendedLifetime(dropped) {}
  }

  /// The remembered sequence with the longest beginning in common with `tokens`, and how much of it can be used.
  ///
  /// A sequence that is a beginning of `tokens` as a whole is used as it is. One that goes on differently is cut where that loses
  /// nothing: at any token of its exact tail, or else behind a page.
  ///
  /// - Complexity: O(tokens · sequences that begin alike).
  func match(_ tokens: [Int32], limit: Int) -> (sequence: SequenceState, tokens: Int)? {
    let hashes = PrefixHash.chain(of: tokens[..<limit], plan: plan)
    return state.withLock { state in
      state.counters.lookups += 1
      for hash in hashes.reversed() {
        let candidates = (state.entriesByHash[hash] ?? []).compactMap { id in
          state.entries[id].flatMap { entry in
            entry.usable(of: tokens[..<limit], plan: plan).map { (id: id, tokens: $0) }
          }
        }
        // The longest; of several, one that needs no cut.
        let best = candidates.max { a, b in
          (a.tokens, state.isWhole(a)) < (b.tokens, state.isWhole(b))
        }
        guard let best, let entry = state.use(best.id) else { continue }
        state.counters.hits += 1
        state.counters.reusedTokens += best.tokens
        return (entry.sequence, best.tokens)
      }
      return nil
    }
  }

  /// Forgets the sequence that was not used for longest; `false` if there is none.
  func releaseOldest() -> Bool {
    let dropped = state.withLock { $0.removeOldest() }
    return dropped != nil
  }
}

extension PrefixIndex {
  fileprivate struct Entry: Sendable {
    var sequence: SequenceState
    let hashes: [PrefixHash]

    /// How many of the first `tokens` the sequence can serve; `nil` if none.
    func usable(of tokens: ArraySlice<Int32>, plan: Plan) -> Int? {
      let common = zip(sequence.tokens, tokens).prefix { $0 == $1 }.count
      if common == sequence.tokens.count { return common }
      let sealed = sequence.layers.map(\.sealedCount).max() ?? 0
      let tail = plan.policy.sinks + sealed * plan.policy.pageTokens
      var cut = common
      if common < tail {
        let pages = max(0, common - plan.policy.sinks) / plan.policy.pageTokens
        cut = min(common, plan.policy.sinks + pages * plan.policy.pageTokens)
      }
      return cut > 0 && sequence.holds(after: cut, plan: plan) ? cut : nil
    }
  }

  fileprivate struct State: Sendable {
    var entries: [Int: Entry] = [:]
    var entriesByHash: [PrefixHash: [Int]] = [:]
    /// By when they were used, the last one at the end.
    var order: [Int] = []
    var pages = PageUses()
    var counters = PrefixStatistics()
    private var nextID = 0

    mutating func insert(_ entry: Entry) {
      let known = (entriesByHash[entry.hashes[entry.hashes.count - 1]] ?? []).first {
        entries[$0]?.sequence.tokens == entry.sequence.tokens
      }
      if let known {
        _ = use(known)
        return
      }
      let id = nextID
      nextID += 1
      entries[id] = entry
      order.append(id)
      for hash in entry.hashes { entriesByHash[hash, default: []].append(id) }
      entry.sequence.forEachPage { pages.add($0) }
    }

    /// An entry, which counts as used now.
    mutating func use(_ id: Int) -> Entry? {
      guard let place = order.firstIndex(of: id) else { return nil }
      order.append(order.remove(at: place))
      return entries[id]
    }

    mutating func removeOldest() -> Entry? {
      guard !order.isEmpty, let entry = entries.removeValue(forKey: order[0]) else { return nil }
      let id = order.removeFirst()
      for hash in entry.hashes {
        entriesByHash[hash]?.removeAll { $0 == id }
        if entriesByHash[hash]?.isEmpty ?? false { entriesByHash[hash] = nil }
      }
      entry.sequence.forEachPage { pages.remove($0) }
      counters.evictedSequences += 1
      return entry
    }

    func isWhole(_ match: (id: Int, tokens: Int)) -> Int {
      entries[match.id]?.sequence.tokens.count == match.tokens ? 1 : 0
    }
  }

  /// Pages in memory of all entries; one that several share counts once.
  fileprivate struct PageUses: Sendable {
    private(set) var byteCount = 0
    private var uses: [ObjectIdentifier: Int] = [:]

    mutating func add(_ page: Page) {
      guard page.memory != nil else { return }
      let count = uses[ObjectIdentifier(page), default: 0]
      if count == 0 { byteCount += page.byteCount }
      uses[ObjectIdentifier(page)] = count + 1
    }

    mutating func remove(_ page: Page) {
      guard let count = uses[ObjectIdentifier(page)] else { return }
      uses[ObjectIdentifier(page)] = count > 1 ? count - 1 : nil
      if count == 1 { byteCount -= page.byteCount }
    }
  }
}

extension SequenceState {
  /// Whether all layers have the same tokens.
  fileprivate var isWhole: Bool { layers.allSatisfy { $0.tokenCount == layers[0].tokenCount } }

  fileprivate func forEachPage(_ body: (Page) -> Void) {
    for layer in layers {
      if let page = layer.sinkPage { body(page) }
      layer.pages.forEach(body)
    }
  }

  /// Whether layers with a sliding window still hold what the token after a cut would see.
  fileprivate func holds(after tokens: Int, plan: Plan) -> Bool {
    layers.indices.allSatisfy { index in
      LayerGeometry(plan: plan, layer: index).holds(layers[index], after: tokens)
    }
  }
}
