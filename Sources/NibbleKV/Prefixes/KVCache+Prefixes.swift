/// What the cache remembered of earlier prompts, and how that served.
public struct PrefixStatistics: Hashable, Sendable {
  /// Prompts that were looked up.
  public internal(set) var lookups = 0
  /// Prompts of which a beginning was found.
  public internal(set) var hits = 0
  /// Tokens that were found and not computed again.
  public internal(set) var reusedTokens = 0
  /// Sequences that are remembered.
  public internal(set) var sequences = 0
  /// Bytes in memory of their pages, many of which living sequences may share.
  public internal(set) var bytes = 0
  /// How often one was shortened or forgotten to make room.
  public internal(set) var evictions = 0
}

extension KVCache {
  /// Makes a sequence that holds as much of a prompt as an earlier one left behind.
  ///
  /// Pages are shared, copy on write; see `tokenCount` for how many tokens are there. If an earlier sequence was remembered that is a
  /// beginning of the prompt as a whole, what is computed from there is bit for bit what it was then. If it goes on differently, it
  /// is cut behind a sealed page, or at any token where its rows are still exact; the rest of the prompt then meets sealed pages
  /// where a new sequence would have had exact rows.
  ///
  /// Reused tokens are not appended again, so a cache that gathers statistics counts them once.
  ///
  /// - Parameters:
  ///   - tokens: The ids of the prompt.
  ///   - count: Tokens at the end of the prompt that are left to compute in any case: the last one, for its logits.
  /// - Returns: A sequence with up to `tokens.count - count` tokens, whose ids it knows.
  /// - Throws: ``KVError/invalidOption(name:value:expected:)`` for an id that is negative or beyond 32 bits.
  /// - Complexity: O(tokens + pages).
  public func makeSequence(
    continuing tokens: [Int],
    leaving count: Int = 1
  ) throws(KVError) -> KVSequence {
    var ids: [Int32] = []
    ids.reserveCapacity(tokens.count)
    for (index, token) in tokens.enumerated() { ids.append(try SequenceState.id(token, at: index)) }
    let limit = max(0, ids.count - max(0, count))
    guard let match = prefixes.match(ids, limit: limit) else { return makeSequence() }
    let sequence = KVSequence(cache: self, state: match.state)
    if match.tokens < match.state.tokens.count { try sequence.truncate(to: match.tokens) }
    return sequence
  }

  /// Remembers a sequence as it is now, so that later prompts which begin like it need not be computed anew.
  ///
  /// Nothing is copied. A sequence some of whose ids are not known (``KVSequence/record(tokens:)``), or whose layers differ in length, is
  /// not remembered; nor is one that does not fill the sinks (or, without sinks, a page).
  ///
  /// Remembered sequences have at most the bytes of the cache's `prefixLimit`, and give way to others when the budget is
  /// exhausted: the one that was not used for longest first, from its end, and only pages that nobody else holds.
  ///
  /// - Complexity: O(tokens + pages).
  public func remember(_ sequence: KVSequence) {
    precondition(sequence.cache === self, "the sequence belongs to another cache")
    prefixes.remember(sequence.snapshot())
  }

  /// Bytes of pages to remember if nobody says how many: a quarter of the budget, or 1 GiB where there is none.
  static func prefixBytes(limit: ByteBudget?, budget: ByteBudget) -> Int {
    if let limit { return limit.byteLimit ?? .max }
    return budget.byteLimit.map { $0 / 4 } ?? 1 << 30
  }
}
