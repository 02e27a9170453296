import Testing

@testable import NibbleKV

/// Prompts that begin alike share what was computed of the beginning.
@Suite struct PrefixTests {
  static let text = "linear:4@page_tokens=16@sinks=4@recent=8"

  private static func cache(
    _ policy: String = text,
    prefixLimit: ByteBudget? = nil,
    window: Int? = nil
  ) throws -> KVCache {
    var shape = PromptRows.shape
    if let window { shape.slidingWindows = [nil, window] }
    return try KVCache(
      model: shape,
      policy: Policy(argument: policy),
      prefixLimit: prefixLimit,
      threads: 1
    )
  }

  /// A remembered sequence of these tokens, appended in portions.
  @discardableResult
  private static func remember(
    _ tokens: [Int],
    by chunk: Int = 20,
    in cache: KVCache
  ) throws -> KVSequence {
    let sequence = cache.makeSequence()
    try PromptRows.append(tokens, by: chunk, to: sequence)
    cache.remember(sequence)
    return sequence
  }

  // MARK: - What is found

  @Test(arguments: [5, 21, 60, 100, 101, 333], [text, text + "@mean=removed", "float16"])
  func aPromptThatComesAgainIsFoundWhole(count: Int, policy: String) throws {
    let cache = try Self.cache(policy)
    let prompt = PromptRows.tokens(count + 1)
    let first = try Self.remember(Array(prompt[..<count]), in: cache)
    let pages = cache.statistics.pageCount
    let second = try cache.makeSequence(continuing: prompt)
    #expect(second.tokenCount == count && second.tokens == Array(prompt[..<count]))
    #expect(cache.statistics.pageCount <= pages)
    // Token by token past the next sealed page, and bit for bit.
    for token in [prompt[count]] + PromptRows.tokens(40, seed: 9) {
      try PromptRows.append([token], to: first)
      try PromptRows.append([token], to: second)
      #expect(try PromptRows.attended(second) == PromptRows.attended(first))
    }
    #expect(second.statistics == first.statistics)
  }

  @Test func theLastTokenIsLeftToComputeUnlessAsked() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(50)
    try Self.remember(prompt, in: cache)
    #expect(try cache.makeSequence(continuing: prompt).tokenCount == 49)
    #expect(try cache.makeSequence(continuing: prompt, leaving: 0).tokenCount == 50)
    #expect(try cache.makeSequence(continuing: prompt, leaving: 10).tokenCount == 40)
    #expect(try cache.makeSequence(continuing: prompt, leaving: 99).tokenCount == 0)
    #expect(try cache.makeSequence(continuing: []).tokenCount == 0)
  }

  @Test func theLongestBeginningOfSeveralIsTaken() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(400)
    for length in [300, 50, 130, 299] {
      try Self.remember(Array(prompt[..<length]), in: cache)
    }
    // Goes on otherwise behind token 150.
    try Self.remember(Array(prompt[..<150]) + PromptRows.tokens(60, seed: 5), in: cache)
    #expect(try cache.makeSequence(continuing: prompt).tokenCount == 300)
    #expect(try cache.makeSequence(continuing: Array(prompt[..<300])).tokenCount == 299)
    #expect(try cache.makeSequence(continuing: Array(prompt[..<51])).tokenCount == 50)
    // Of those that hold token 140 all have sealed its page; one that is shorter ends before.
    let other = Array(prompt[..<140]) + PromptRows.tokens(40, seed: 6)
    #expect(try cache.makeSequence(continuing: other).tokenCount == 132)
    #expect(try cache.makeSequence(continuing: PromptRows.tokens(400, seed: 7)).tokenCount == 0)
  }

  @Test func aCutInExactRowsLosesNothing() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(100)
    let first = try Self.remember(prompt, in: cache)
    // The last append saw 80 tokens: (80 - 4 - 8) / 16 = 4 pages are sealed, 68 tokens with the sinks.
    #expect(first.statistics.compressedTokens == 64)
    let other = Array(prompt[..<77]) + PromptRows.tokens(40, seed: 2)
    let second = try cache.makeSequence(continuing: other)
    #expect(second.tokenCount == 77)
    for layer in 0..<2 {
      let rows = try first.decodedRows(layer: layer)
      let cut = try second.decodedRows(layer: layer)
      #expect(cut.keys == Array(rows.keys[..<cut.keys.count]))
      #expect(cut.values == Array(rows.values[..<cut.values.count]))
    }
    try PromptRows.append(Array(other[77...]), to: second)
    #expect(second.tokenCount == other.count && second.tokens == other)
  }

  @Test func aSealedPageIsNotCut() throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(200)
    try Self.remember(prompt, in: cache)
    let pages = cache.statistics.pageCount
    for (common, reused) in [(67, 52), (68, 68), (69, 68), (83, 68), (84, 84), (20, 20)] {
      let other = Array(prompt[..<common]) + PromptRows.tokens(50, seed: 3)
      let sequence = try cache.makeSequence(continuing: other)
      #expect(sequence.tokenCount == reused)
      #expect(sequence.tokens == Array(prompt[..<reused]))
      #expect(cache.statistics.pageCount <= pages, "a cut takes no page")
    }
    // Sinks alone are no beginning worth sharing.
    let other = Array(prompt[..<10]) + PromptRows.tokens(50, seed: 3)
    #expect(try cache.makeSequence(continuing: other).tokenCount == 0)
  }

  @Test(arguments: [false, true])
  func whatNeedsNoCutIsPreferred(isRememberedFirst: Bool) throws {
    let cache = try Self.cache()
    let prompt = PromptRows.tokens(109)
    let sequence = cache.makeSequence()
    try PromptRows.append(Array(prompt[..<100]), by: 1, to: sequence)
    let shorter = sequence.fork()
    try PromptRows.append(Array(prompt[100...]), by: 1, to: sequence)
    // The longer one has sealed a page more, and could be cut behind it without loss.
    #expect(sequence.statistics.compressedTokens > shorter.statistics.compressedTokens)
    for each in isRememberedFirst ? [shorter, sequence] : [sequence, shorter] {
      cache.remember(each)
    }
    let again = try cache.makeSequence(continuing: Array(prompt[..<101]))
    #expect(again.statistics == shorter.statistics)
  }

  @Test func aWindowThatHasMovedOnIsNotCut() throws {
    let cache = try Self.cache(window: 24)
    let prompt = PromptRows.tokens(300)
    try Self.remember(Array(prompt[..<200]), in: cache)
    #expect(try cache.makeSequence(continuing: prompt).tokenCount == 200)
    let other = Array(prompt[..<120]) + PromptRows.tokens(50, seed: 3)
    #expect(try cache.makeSequence(continuing: other).tokenCount == 0)
    // A shorter one that still has it serves instead.
    try Self.remember(Array(prompt[..<110]), in: cache)
    #expect(try cache.makeSequence(continuing: other).tokenCount == 110)
  }

  // MARK: - What is not found

  @Test func sequencesWithoutAllIdsAreNotRemembered() throws {
    let cache = try Self.cache()
    let sequence = cache.makeSequence()
    cache.remember(sequence)
    let prompt = PromptRows.tokens(60)
    try PromptRows.append(prompt, to: sequence, records: false)
    cache.remember(sequence)
    try PromptRows.append(prompt, to: sequence)
    cache.remember(sequence)
    #expect(cache.statistics.prefixes.sequences == 0)
    // Layers of different lengths.
    let halfway = cache.makeSequence()
    try PromptRows.append(prompt, to: halfway)
    try TokenRows(1, shape: PromptRows.shape, seed: 1).append(0..<1, to: halfway)
    cache.remember(halfway)
    #expect(cache.statistics.prefixes.sequences == 0)
  }

  @Test func withoutALimitOfBytesNothingIsRemembered() throws {
    let cache = try Self.cache(prefixLimit: .bytes(0))
    let prompt = PromptRows.tokens(100)
    try Self.remember(prompt, in: cache)
    #expect(try cache.makeSequence(continuing: prompt).tokenCount == 0)
    #expect(cache.statistics.prefixes == PrefixStatistics())
  }

  @Test(arguments: [-1, Int.min, Int(Int32.max) + 1])
  func idsThatDoNotExistAreRefused(id: Int) throws {
    let cache = try Self.cache()
    #expect(throws: KVError.self) { try cache.makeSequence(continuing: [1, id, 2]) }
  }

  /// Tokens are compared, whatever the hashes say.
  @Test func equalHashesAreNoProof() throws {
    let cache = try Self.cache()
    let chain = PrefixChain(plan: cache.plan) { last, _ in last }
    let index = PrefixIndex(plan: cache.plan, byteLimit: .max, chain: chain)
    let prompts = (0..<5).map { PromptRows.tokens(120, seed: $0) }
    for prompt in prompts {
      index.remember(try Self.remember(prompt, in: cache).snapshot())
    }
    #expect(index.statistics.sequences == 5)
    for prompt in prompts {
      let match = try #require(index.match(prompt.map(Int32.init) + [1], limit: 120))
      #expect(match.tokens == 120)
      #expect(match.state.tokens == prompt.map(Int32.init))
    }
    let stranger = PromptRows.tokens(120, seed: 9).map(Int32.init)
    #expect(index.match(stranger, limit: 120) == nil)
    let mixed = prompts[2][..<60].map(Int32.init) + stranger
    #expect(index.match(mixed, limit: 120)?.tokens == 52)
  }

  @Test func otherPlansAndModelsHashOtherwise() throws {
    func hashes(_ policy: String, fingerprint: String? = nil) throws -> [PrefixHash] {
      var shape = PromptRows.shape
      shape.fingerprint = fingerprint
      let plan = try Plan(policy: Policy(argument: policy), shape: shape)
      return PrefixChain(plan: plan).hashes(of: PromptRows.tokens(60).map(Int32.init)[...])
    }
    let first = try hashes(Self.text)
    #expect(first.count == 4)
    #expect(try hashes(Self.text) == first)
    let others = try [
      hashes(Self.text, fingerprint: "a"), hashes(Self.text, fingerprint: "b"),
      hashes("linear:3@page_tokens=16@sinks=4@recent=8"),
      hashes("linear:4@page_tokens=16@sinks=4@recent=9"),
    ]
    #expect(Set([first] + others).count == 5)
    #expect(Set((others + [first]).flatMap { $0 }).count == 20)
  }

  // MARK: - Isolation

  @Test func sequencesThatDivergeDoNotDisturbEachOther() throws {
    let cache = try Self.cache()
    let lone = try Self.cache()
    let prompt = PromptRows.tokens(93)
    try Self.remember(prompt, in: cache)
    let ends = (0..<3).map { PromptRows.tokens(50, seed: 20 + $0) }
    let sequences = try ends.map { try cache.makeSequence(continuing: prompt + $0) }
    for position in ends[0].indices {
      for (sequence, end) in zip(sequences, ends) {
        try PromptRows.append([end[position]], to: sequence)
      }
    }
    try sequences[0].truncate(to: 30)
    try PromptRows.append(ends[0], to: sequences[0])
    for (sequence, end) in zip(sequences, ends).dropFirst() {
      let alone = lone.makeSequence()
      try PromptRows.append(prompt, by: 20, to: alone)
      try PromptRows.append(end, by: 1, to: alone)
      #expect(try PromptRows.attended(sequence) == PromptRows.attended(alone))
    }
    let alone = lone.makeSequence()
    try PromptRows.append(prompt, by: 20, to: alone)
    let again = try cache.makeSequence(continuing: prompt + [1])
    #expect(try PromptRows.attended(again) == PromptRows.attended(alone))
  }

  /// Many tasks remember, continue and diverge; a limit makes them evict each other's.
  @Test(arguments: [1_000_000_000, 60_000])
  func manyTasks(limit: Int) async throws {
    let cache = try Self.cache(
      "float16@page_tokens=16@sinks=4@recent=8",
      prefixLimit: .bytes(limit)
    )
    let prompts = (0..<6).map { PromptRows.tokens(60, seed: 1) + PromptRows.tokens(80, seed: $0) }
    let expected = try prompts.map { prompt in
      let sequence = try Self.cache("float16@page_tokens=16@sinks=4@recent=8").makeSequence()
      try PromptRows.append(prompt, by: 1, to: sequence)
      return try PromptRows.attended(sequence)
    }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask {
          for round in 0..<12 {
            let index = (task + round) % prompts.count
            let prompt = prompts[index]
            let sequence = try cache.makeSequence(continuing: prompt)
            #expect(sequence.tokens == Array(prompt[..<sequence.tokenCount]))
            try PromptRows.append(Array(prompt[sequence.tokenCount...]), by: 7, to: sequence)
            // Rows that stay exact are the same however they were cut.
            #expect(try PromptRows.attended(sequence) == expected[index])
            cache.remember(sequence)
            if round % 4 == 3 { _ = cache.prefixes.releaseOldest() }
          }
        }
      }
      try await group.waitForAll()
    }
    let statistics = cache.statistics.prefixes
    #expect(statistics.lookups == 96 && statistics.hits > 0 && statistics.bytes <= limit)
    #expect(limit > 1_000_000 || statistics.evictions > 0)
    while cache.prefixes.releaseOldest() {}
    #expect(cache.statistics.pageCount == 0)
    #expect(cache.statistics.prefixes.sequences == 0)
  }
}

/// Rows that follow from a token and its position, as a model's do.
enum PromptRows {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 32)

  static func tokens(_ count: Int, seed: UInt64 = 1) -> [Int] {
    var random = SeededRandom(seed)
    return (0..<count).map { _ in Int.random(in: 0..<50_000, using: &random) }
  }

  /// Appends tokens to all layers, in portions, and records them.
  static func append(
    _ tokens: [Int],
    by chunk: Int = 1_000,
    to sequence: KVSequence,
    records: Bool = true
  ) throws {
    for first in stride(from: 0, to: tokens.count, by: chunk) {
      let part = Array(tokens[first..<min(first + chunk, tokens.count)])
      let position = sequence.tokenCount
      for layer in 0..<shape.layers {
        let keys = part.enumerated().flatMap { row($1, position: position + $0, kind: 2 * layer) }
        let values = part.enumerated().flatMap {
          row($1, position: position + $0, kind: 2 * layer + 1)
        }
        try sequence.append(keys: keys.span, values: values.span, layer: layer)
      }
      if records { try sequence.record(tokens: part.span) }
    }
  }

  /// Attention in all layers.
  static func attended(_ sequence: KVSequence) throws -> [[Float]] {
    let queries = randomQueries(shape: shape)
    return try (0..<shape.layers).map { try sequence.attended(queries, layer: $0) }
  }

  private static func row(_ token: Int, position: Int, kind: Int) -> [Float] {
    var random = SeededRandom(UInt64(token) << 32 | UInt64(position) << 4 | UInt64(kind))
    return (0..<shape.kvHeads * shape.headDim).map { _ in
      Float(random.next() >> 40) * 0x1p-23 - 1
    }
  }
}
