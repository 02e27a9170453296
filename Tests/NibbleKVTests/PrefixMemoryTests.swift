import Testing

@testable import NibbleKV

/// What remembered sequences cost, and how they give way.
@Suite struct PrefixMemoryTests {
  /// Nothing is sealed and rows are those of float16, so bytes follow from tokens: a page of 16 tokens, two layers.
  private static let text = "float16@page_tokens=16@sinks=4@recent=8"

  private static func cache(
    budget: ByteBudget = .unlimited,
    prefixLimit: ByteBudget? = nil
  ) throws -> KVCache {
    try KVCache(
      model: PromptRows.shape,
      policy: Policy(argument: text),
      budget: budget,
      prefixLimit: prefixLimit,
      threads: 1
    )
  }

  @discardableResult
  private static func remember(_ tokens: [Int], in cache: KVCache) throws -> KVSequence {
    let sequence = cache.makeSequence()
    try PromptRows.append(tokens, to: sequence)
    cache.remember(sequence)
    return sequence
  }

  /// Bytes of sinks and so many pages in both layers.
  private static func bytes(pages: Int, of cache: KVCache) -> Int {
    let layer = cache.plan.layers[0]
    return 2 * (layer.sinkLayout.byteCount + pages * layer.exactLayout.byteCount)
  }

  /// Bytes of pages alone.
  private static func pageBytes(_ pages: Int, of cache: KVCache) -> Int {
    bytes(pages: pages, of: cache) - bytes(pages: 0, of: cache)
  }

  private static func reused(_ tokens: [Int], in cache: KVCache) throws -> Int {
    try cache.makeSequence(continuing: tokens + [1]).tokenCount
  }

  // MARK: - Bytes

  @Test func aPageThatSeveralShareCountsOnce() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(4 + 10 * 16)
    let sequence = try Self.remember(prompt, in: cache)
    let bytes = Self.bytes(pages: 10, of: cache)
    #expect(cache.statistics.prefixes.bytes == bytes)
    // The same again, and a fork that goes on by a page.
    cache.remember(sequence)
    cache.remember(sequence.fork())
    #expect(cache.statistics.prefixes.sequences == 1)
    let fork = sequence.fork()
    try PromptRows.append(PromptRows.tokens(16, seed: 2), to: fork)
    cache.remember(fork)
    #expect(cache.statistics.prefixes.sequences == 2)
    #expect(cache.statistics.prefixes.bytes == bytes + Self.pageBytes(1, of: cache))
    // The same tokens computed by somebody else have pages of their own, but nobody needs them.
    try Self.remember(prompt, in: cache)
    #expect(cache.statistics.prefixes.sequences == 2)
    try Self.remember(Array(prompt.dropLast(16)), in: cache)
    #expect(
      cache.statistics.prefixes.bytes == bytes + Self.bytes(pages: 9, of: cache)
        + Self.pageBytes(1, of: cache)
    )
  }

  @Test func theDefaultLimitIsAQuarterOfTheBudget() throws {
    let free = try Self.cache()
    let held = free.statistics.heldBytes
    let cache = try Self.cache(budget: .bytes(held + (64 << 20)))
    for seed in UInt64(0)..<40 {
      try Self.remember(PromptRows.tokens(4 + 100 * 16, seed: seed), in: cache)
    }
    let limit = (held + (64 << 20)) / 4
    let bytes = cache.statistics.prefixes.bytes
    #expect(bytes <= limit && bytes > limit - Self.pageBytes(1, of: cache))
  }

  // MARK: - Eviction

  @Test func theLeastRecentlyUsedGivesWayFirstAndFromItsEnd() throws {
    let limit = Self.bytes(pages: 10, of: try Self.cache()) * 3
    let cache = try Self.cache(prefixLimit: .bytes(limit))
    let prompts = (0..<5).map { PromptRows.tokens(4 + 10 * 16, seed: $0) }
    for prompt in prompts[..<3] { try Self.remember(prompt, in: cache) }
    #expect(cache.statistics.prefixes.bytes == limit)
    #expect(cache.statistics.prefixes.evictions == 0)
    // The first is used again, so the second makes room for a page of the fourth.
    #expect(try Self.reused(prompts[0], in: cache) == 164)
    try Self.remember(Array(prompts[3][..<20]), in: cache)
    #expect(cache.statistics.prefixes.evictions == 1)
    #expect(cache.statistics.prefixes.bytes <= limit)
    // Its sinks and a page took the place of two pages.
    #expect(try Self.reused(prompts[1], in: cache) == 4 + 8 * 16)
    #expect(try Self.reused(prompts[0], in: cache) == 164)
    #expect(try Self.reused(prompts[3], in: cache) == 20)
    // What was shortened was used last before those; now the third is the oldest.
    try Self.remember(prompts[4], in: cache)
    #expect(try Self.reused(prompts[2], in: cache) < 20)
    #expect(try Self.reused(prompts[1], in: cache) == 4 + 8 * 16)
    #expect(try Self.reused(prompts[4], in: cache) == 164)
  }

  @Test func theBeginningThatOthersShareGoesLast() throws {
    let cache = try Self.cache(prefixLimit: .bytes(Self.bytes(pages: 30, of: try Self.cache())))
    let common = PromptRows.tokens(4 + 10 * 16)
    let trunk = cache.makeSequence()
    try PromptRows.append(common, to: trunk)
    let prompts = (0..<4).map { common + PromptRows.tokens(10 * 16, seed: 10 + $0) }
    for prompt in prompts {
      let fork = trunk.fork()
      try PromptRows.append(Array(prompt[common.count...]), to: fork)
      cache.remember(fork)
    }
    // Ten pages in common, and ten each of the last two.
    #expect(cache.statistics.prefixes.sequences == 2)
    #expect(cache.statistics.prefixes.bytes == Self.bytes(pages: 30, of: cache))
    #expect(try prompts.map { try Self.reused($0, in: cache) } == [164, 164, 324, 324])
  }

  @Test func oneThatIsLargerThanTheLimitKeepsItsBeginning() throws {
    let limit = Self.bytes(pages: 10, of: try Self.cache())
    let cache = try Self.cache(prefixLimit: .bytes(limit))
    let prompt = PromptRows.tokens(4 + 50 * 16)
    try Self.remember(prompt, in: cache)
    #expect(cache.statistics.prefixes.bytes == limit)
    #expect(try Self.reused(prompt, in: cache) == 164)
    // Where a whole one comes in the place of one that was cut, it is taken.
    try Self.remember(Array(prompt[..<164]), in: cache)
    #expect(cache.statistics.prefixes.sequences == 1)
    #expect(cache.statistics.prefixes.bytes == limit)
  }

  // MARK: - Under pressure

  @Test func onlyWhatNoSequenceUsesIsReleased() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(4 + 10 * 16)
    var sequence: KVSequence? = try Self.remember(prompt, in: cache)
    #expect(!cache.prefixes.releaseOldest())
    #expect(try Self.reused(prompt, in: cache) == 164)
    // The sequence lets go of its last two pages, and of no more.
    try sequence?.truncate(to: 4 + 8 * 16)
    #expect(cache.prefixes.releaseOldest())
    #expect(cache.statistics.prefixes.bytes == Self.bytes(pages: 8, of: cache))
    #expect(!cache.prefixes.releaseOldest())
    #expect(try Self.reused(prompt, in: cache) == 4 + 8 * 16)
    sequence = nil
    let pages = cache.statistics.pageCount
    #expect(pages == 2 * 9)
    #expect(cache.prefixes.releaseOldest())
    #expect(cache.statistics.pageCount < pages)
    while cache.prefixes.releaseOldest() {}
    #expect(cache.statistics.pageCount == 0)
    #expect(cache.statistics.prefixes.sequences == 0)
    #expect(cache.statistics.prefixes.bytes == 0)
  }

  /// A budget counts what is remembered, and it never makes an append fail that would have worked without.
  @Test func whatIsRememberedMakesRoomForSequences() throws {
    let held = try Self.cache().statistics.heldBytes
    let budget = ByteBudget.bytes(held + 12 * (2 << 20))
    let cache = try Self.cache(budget: budget, prefixLimit: .unlimited)
    // One prompt has 2 MiB of pages and some, and there are twenty of them.
    for seed in UInt64(0)..<20 {
      try Self.remember(PromptRows.tokens(4 + 512 * 16, seed: seed), in: cache)
    }
    let statistics = cache.statistics
    #expect(statistics.heldBytes <= budget.byteLimit ?? 0)
    #expect(statistics.prefixes.evictions > 0 && statistics.prefixes.sequences > 0)
    #expect(try Self.reused(PromptRows.tokens(4 + 512 * 16, seed: 19), in: cache) > 0)
  }

  @Test func lookUpsAreCounted() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(100)
    #expect(try Self.reused(prompt, in: cache) == 0)
    try Self.remember(prompt, in: cache)
    #expect(try Self.reused(prompt, in: cache) == 100)
    #expect(try Self.reused(Array(prompt[..<60]), in: cache) == 60)
    let statistics = cache.statistics.prefixes
    #expect(statistics.lookups == 3 && statistics.hits == 2 && statistics.reusedTokens == 160)
    #expect(statistics.sequences == 1 && statistics.evictions == 0)
    #expect(statistics.bytes == Self.bytes(pages: 6, of: cache))
    // What is reused is not appended again.
    #expect(cache.statistics.pageCount == 2 * 7)
  }
}
