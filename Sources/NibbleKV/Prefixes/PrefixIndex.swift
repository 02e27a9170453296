import NibblePolicy
import Synchronization

/// Sequences that were remembered, to be found again by how they begin.
///
/// An entry is a sequence as it was: it shares its pages with the sequence that it was taken of and with those that continue it. Entries
/// are found by the hashes at their page boundaries, and compared token by token before they are used.
final class PrefixIndex: Sendable {
  private let chain: PrefixChain
  private let byteLimit: Int
  private let telemetry: Telemetry
  private let table: Mutex<PrefixTable>

  /// Bytes that are let go of at once when the budget is exhausted: pages go back to the system by the slab.
  private static let releasedBytes = SlabGeometry.hugePageBytes

  init(
    plan: Plan,
    byteLimit: Int,
    chain: PrefixChain? = nil,
    telemetry: Telemetry = Telemetry()
  ) {
    self.chain = chain ?? PrefixChain(plan: plan)
    self.byteLimit = byteLimit
    self.telemetry = telemetry
    table = Mutex(PrefixTable(plan: plan, chain: self.chain))
  }

  var statistics: PrefixStatistics {
    table.withLock { table in
      var statistics = table.counters
      statistics.sequences = table.entries.count
      statistics.bytes = table.pages.byteCount
      return statistics
    }
  }

  /// Remembers a sequence all of whose tokens are known; the one that has the same tokens already stays as it is.
  ///
  /// - Complexity: O(tokens + pages).
  func remember(_ state: SequenceState) {
    guard byteLimit > 0, state.isWhole, state.tokens.count == state.tokenCount else { return }
    let hashes = chain.hashes(of: state.tokens[...])
    guard !hashes.isEmpty else { return }
    var sequence = RememberedSequence(state: state, hashes: hashes)
    // Encoded again by whoever goes on, with the same result.
    for layer in sequence.state.layers.indices { sequence.state.layers[layer].ahead = nil }
    // What is dropped goes outside the lock: its pages go back to the pool.
    let dropped = table.withLock { table in
      (replaced: table.insert(sequence), evicted: table.evict(to: byteLimit))
    }
    noteEvictions(dropped.evicted.count)
  }

  /// The remembered sequence that serves the most of a prompt, and how many of its tokens do.
  ///
  /// A sequence that is a beginning of the prompt as a whole is used as it is. One that goes on differently is cut where that
  /// needs no decoding: at any token of its exact rows, or else behind a page.
  ///
  /// - Parameters:
  ///   - tokens: The prompt.
  ///   - limit: The most tokens to use.
  /// - Returns: The sequence and how many of its tokens; `nil` if nothing begins alike.
  /// - Complexity: O(tokens + pageTokens · sequences that begin alike).
  func match(_ tokens: [Int32], limit: Int) -> (state: SequenceState, tokens: Int)? {
    guard byteLimit > 0 else { return nil }
    let usable = tokens[..<limit]
    let hashes = chain.hashes(of: usable)
    let found: (state: SequenceState, tokens: Int)? = table.withLock { table in
      table.counters.lookups += 1
      guard let match = table.match(usable, hashes: hashes), let sequence = table.use(match.id)
      else { return nil }
      table.counters.hits += 1
      table.counters.reusedTokens += match.tokens
      return (sequence.state, match.tokens)
    }
    telemetry.notePrefixLookup(reusedTokens: found?.tokens)
    return found
  }

  /// Forgets something that holds memory which no sequence uses, the least recently used first; `false` if there is nothing left.
  ///
  /// - Complexity: O(pages of all entries).
  func releaseOldest() -> Bool {
    let dropped = table.withLock { $0.releaseOldest(bytes: Self.releasedBytes) }
    guard dropped != nil else { return false }
    noteEvictions(1)
    return true
  }

  private var byteCount: Int { table.withLock { $0.pages.byteCount } }

  private func noteEvictions(_ count: Int) {
    telemetry.prefixBytes.note { byteCount }
    if count > 0 { telemetry.notePrefixEvictions(count, bytes: byteCount) }
  }
}
