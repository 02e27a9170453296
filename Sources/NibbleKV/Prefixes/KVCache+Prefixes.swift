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
  /// Sequences that were forgotten to stay within a limit.
  public internal(set) var evictedSequences = 0
}

extension KVCache {
  /// Makes a sequence that holds as much of a prompt as an earlier one left behind.
  ///
  /// Pages are shared, copy on write. At least the last token is left to compute, because its logits are wanted; see `tokenCount` for
  /// how many are there. If an earlier sequence was remembered that is a beginning of the prompt as a whole, what is computed from
  /// there is bit for bit what it was then. If it goes on differently, it is cut behind a sealed page, or at any token where
  /// its rows are still exact; the rest of the prompt then meets sealed pages where a new sequence would have had exact rows.
  ///
  /// - Parameter tokens: The ids of the prompt.
  /// - Returns: A sequence with 0 ..< `tokens.count` tokens, whose ids it knows.
  /// - Throws: ``KVError/invalidOption(name:value:expected:)`` for an id that is negative or beyond 32 bits.
  /// - Complexity: O(tokens + pages).
  public func makeSequence(continuing tokens: [Int]) throws(KVError) -> KVSequence {
    var ids: [Int32] = []
    ids.reserveCapacity(tokens.count)
    for (index, token) in tokens.enumerated() { ids.append(try SequenceState.id(token, at: index)) }
    guard ids.count > 1, let match = prefixes.match(ids, limit: ids.count - 1) else {
      return makeSequence()
    }
    let sequence = KVSequence(cache: self, state: match.sequence)
    if match.tokens < match.sequence.tokens.count { try sequence.truncate(to: match.tokens) }
    return sequence
  }

  /// Remembers a sequence as it is now, so that later prompts which begin like it need not be computed anew.
  ///
  /// Nothing is copied. A sequence some of whose ids are not known (``KVSequence/record(tokens:)``), or whose layers differ in length, is not
  /// remembered; nor is one that does not fill the sinks (or, without sinks, a page). Those that were not used for longest are forgotten to
  /// stay within the cache's limit, and before anything else when the budget is exhausted.
  ///
  /// - Complexity: O(tokens + pages).
  public func remember(_ sequence: KVSequence) {
    precondition(sequence.cache === self, "the sequence belongs to another cache")
    prefixes.remember(sequence.snapshot())
  }
}
