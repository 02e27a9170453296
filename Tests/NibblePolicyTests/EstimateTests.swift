import NibbleCodec
import Testing

@testable import NibblePolicy

@Suite struct EstimateTests {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)

  /// A page of half-precision rows has 2 heads x 2 sides x 64 tokens x 64 channels x 2 bytes =
  /// 32,768 bytes; the sink page has 16 tokens and 8,192 bytes.
  ///
  /// 1,000 tokens in chunks of 100: before the last append there are 900, of which
  /// (900 - 4 - 64) / 64 = 13 pages are sealed. The tail is largest after the append that ends at
  /// 800: 13 pages are begun and (700 - 4 - 64) / 64 = 9 sealed, which leaves 4.
  @Test func halfPrecisionByHand() throws {
    let plan = try Plan(policy: .float16, shape: Self.shape)
    let estimate = try plan.estimate(context: 1000, chunk: 100, threads: 2)
    #expect(estimate.codes == 2 * 13 * 32_768)
    #expect(estimate.tables == 0)
    #expect(estimate.scales == 0)
    #expect(estimate.tail == 2 * 4 * 32_768)
    #expect(estimate.sinks == 2 * 8192)
    #expect(estimate.scratch == plan.scratchBytes(context: 1000, chunk: 100, threads: 2))
    #expect(estimate.compressedTokens == 0)
    #expect(estimate.bitsPerValue == 16)
    #expect(estimate.float16Bytes == 1000 * 2 * 2 * 2 * 64 * 2)

    // Sealed and exact pages have one size here, so they share slabs.
    let pageSlabs = slabBytes(pages: 2 * (13 + 4), pageBytes: 32_768)
    let sinkSlabs = slabBytes(pages: 2, pageBytes: 8192)
    let pages = estimate.codes + estimate.tail + estimate.sinks
    #expect(estimate.slack == pageSlabs + sinkSlabs - pages)
    #expect(estimate.total == pageSlabs + sinkSlabs + estimate.scratch)
    #expect(estimate.bytesPerToken == Double(estimate.total) / 1000)
  }

  @Test func partsOfSealedPagesFollowTheirStrips() throws {
    let policy = Policy(keys: .clustered(4).centred, values: .int8)
    let plan = try Plan(policy: policy, shape: Self.shape)
    let estimate = try plan.estimate(context: 1000, chunk: 100, threads: 1)
    let keys = plan.layers[0].keys[0].bytes
    let values = plan.layers[0].values[0].bytes
    let strips = 2 * 2 * 13
    // Means of 64 floats for the keys of each layer and head, new at pages 0, 1, 2, 4 and 8.
    let means = 5 * 2 * 2 * 64 * 4
    #expect(estimate.tables == strips * (keys.tables + values.tables))
    #expect(estimate.scales == strips * (keys.scales + values.scales) + means)
    let pageBytes = 2 * 13 * plan.layers[0].pageLayout.byteCount
    #expect(estimate.codes + estimate.tables + estimate.scales == pageBytes + means)
    #expect(estimate.tables > 0)
    #expect(estimate.compressedTokens == 13 * 64)
    let held = Double((pageBytes + means) * 8)
    #expect(estimate.bitsPerValue == held / Double(13 * 64 * 2 * 2 * 64 * 2))
  }

  @Test(arguments: 0..<200)
  func tailEqualsASimulationOfTheLifeCycle(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let pages = [16, 32, 48, 64, 128, 192]
    let policy = Policy(
      keys: .int8,
      values: .int8,
      pageTokens: pages.randomElement(using: &generator) ?? 64,
      sinks: Int.random(in: 0...40, using: &generator),
      recent: Int.random(in: 0...300, using: &generator)
    )
    let plan = try Plan(policy: policy, shape: Self.shape)
    let context = Int.random(in: 0...6000, using: &generator)
    let chunk = Int.random(in: 1...700, using: &generator)

    var tokens = 0
    var sealed = 0
    var mostExact = 0
    while tokens < context {
      while policy.sinks + (sealed + 1) * policy.pageTokens <= tokens - policy.recent {
        sealed += 1
      }
      tokens = min(context, tokens + chunk)
      var begun = 0
      while policy.sinks + begun * policy.pageTokens < tokens { begun += 1 }
      mostExact = max(mostExact, begun - sealed)
    }

    // Appends shorter than a page encode the next one while its tokens are still in the window.
    let due = policy.sinks + policy.recent + (sealed + 1) * policy.pageTokens
    let span = min(policy.recent, policy.pageTokens)
    let ahead = chunk < policy.pageTokens && tokens >= due - span && span > 0 ? 1 : 0

    let estimate = try plan.estimate(context: context, chunk: chunk, threads: 1)
    let layer = plan.layers[0]
    let exact = mostExact * layer.exactLayout.byteCount
    #expect(estimate.tail == 2 * (exact + ahead * layer.pageLayout.byteCount))
    #expect(estimate.compressedTokens == sealed * policy.pageTokens)
  }

  /// Three sequences like the one above.
  ///
  /// If they have 500 tokens in common, 400 of these were there before the last common append, and
  /// (400 - 4 - 64) / 64 = 5 pages of each layer were sealed; those and the sinks are held once.
  @Test func sequencesShareWhatWasSealed() throws {
    let plan = try Plan(policy: .float16, shape: Self.shape)
    let one = try plan.estimate(context: 1000, chunk: 100, threads: 2)
    let three = try plan.estimate(context: 1000, chunk: 100, threads: 2, sequences: 3)
    #expect(three.codes == 3 * one.codes && three.tail == 3 * one.tail)
    #expect(three.sinks == 3 * one.sinks && three.scratch == one.scratch)
    #expect(three.float16Bytes == 3 * one.float16Bytes)
    #expect(three.bytesPerToken == Double(three.total) / 3000)
    let shared = try plan.estimate(context: 1000, chunk: 100, threads: 2, sequences: 3, shared: 500)
    #expect(shared.codes == 2 * (3 * 13 - 2 * 5) * 32_768)
    #expect(shared.sinks == one.sinks && shared.tail == three.tail)
    #expect(shared.bitsPerValue < one.bitsPerValue && three.bitsPerValue == one.bitsPerValue)
  }

  /// Pages that have aged since the sequences parted are encoded by each for itself.
  @Test func agedPagesAreNotShared() throws {
    let policy = Policy(
      keys: .int8,
      values: .int8,
      ages: [Policy.Age(beyond: 512, keys: .linear(2), values: .linear(2))]
    )
    let plan = try Plan(policy: policy, shape: Self.shape)
    // 900 tokens before the last append: (900 - 4 - 512) / 64 = 6 of the 13 sealed pages have aged, at 400 tokens none had.
    let layer = plan.layers[0]
    let (young, old) = (layer.rungs[0].pageLayout.byteCount, layer.rungs[1].pageLayout.byteCount)
    let two = try plan.estimate(context: 1000, chunk: 100, threads: 1, sequences: 2, shared: 500)
    #expect(two.codes + two.tables + two.scales == 2 * 2 * (7 * young + 6 * old))
    // At 900 tokens of common history two had aged by 800, and those are shared, as are the young ones of now.
    let later = try plan.estimate(context: 1000, chunk: 100, threads: 1, sequences: 2, shared: 900)
    let shared = 4 * old + 5 * young
    #expect(
      later.codes + later.tables + later.scales == 2 * (2 * (7 * young + 6 * old) - shared)
    )
  }

  /// A window of 300: after the last append, which found 900 tokens, (900 - 299 - 64 - 4) / 64 = 8 of 13 pages are dropped; 2 of these
  /// by that append, which one layer after the other does.
  @Test func windowsDropPages() throws {
    let shape = ModelShape(
      layers: 3,
      queryHeads: 4,
      kvHeads: 2,
      headDim: 64,
      slidingWindows: [300, nil, 300]
    )
    let estimate = try Plan(policy: .float16, shape: shape)
      .estimate(context: 1000, chunk: 100, threads: 1)
    #expect(estimate.codes == (5 + 13 + 5 + 2) * 32_768)
  }

  /// A chunk of 8 tokens has 8 x 2 rows in a block of each head, two blocks in all: they are split by pages.
  ///
  /// 512 tokens are not.
  @Test func splitResultsAreThoseOfFewRows() throws {
    let plan = try Plan(policy: .balanced, shape: Self.shape)
    let workers = AttentionScratch.workerBytes(headDim: 64)
    func results(_ rows: Int) -> Int {
      64 * AttentionScratch.combinedBytes(rows: rows, headDim: 64)
    }
    #expect(plan.scratchBytes(context: 8191, chunk: 512, threads: 1) == workers)
    #expect(plan.scratchBytes(context: 8192, chunk: 8, threads: 1) == workers + results(16))
    #expect(plan.scratchBytes(context: 8192, chunk: 512, threads: 1) == workers + results(2))
    #expect(
      plan.scratchBytes(context: 8192, chunk: 512, threads: 1, sequences: 20)
        == workers + 20 * results(2)
    )
  }

  @Test func shortContextsAreNotCompressed() throws {
    let plan = try Plan(policy: .balanced, shape: Self.shape)
    let empty = try plan.estimate(context: 0, threads: 1)
    #expect(empty.total == empty.scratch)
    #expect(empty.bytesPerToken == 0)
    let short = try plan.estimate(context: 132, chunk: 1, threads: 1)
    #expect(short.compressedTokens == 0)
    #expect(short.bitsPerValue == plan.bitsPerValue)
    // The page of tokens 4...67 is older than the newest 64 once there are 132 tokens.
    let longer = try plan.estimate(context: 133, chunk: 1, threads: 1)
    #expect(longer.compressedTokens == 64)
  }

  @Test func theLongestContextsDoNotOverflow() throws {
    let shape = ModelShape(layers: 512, queryHeads: 512, kvHeads: 16, headDim: 512)
    let plan = try Plan(policy: .exact, shape: shape)
    let estimate = try plan.estimate(context: ModelShape.tokenLimit, threads: Plan.threadLimit)
    let rows = ModelShape.tokenLimit * 512 * 16 * 512 * 2 * 4
    #expect(estimate.total > rows)
    #expect(estimate.total < rows + rows / 100)

    let large = ModelShape(layers: 128, queryHeads: 128, kvHeads: 8, headDim: 128)
    let million = try Plan(policy: .balanced, shape: large).estimate(context: 1 << 20, threads: 8)
    #expect(million.float16Bytes == 549_755_813_888)
    #expect(million.total > 128 << 30)
    #expect(million.total < 160 << 30)
  }

  @Test(arguments: [(-1, 1, 1), (16_777_217, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 1025)])
  func wrongArgumentsAreRefused(context: Int, chunk: Int, threads: Int) throws {
    let plan = try Plan(policy: .balanced, shape: Self.shape)
    #expect(throws: PolicyError.self) {
      try plan.estimate(context: context, chunk: chunk, threads: threads)
    }
  }

  @Test(arguments: [(0, 0), (65_537, 0), (200, 0), (1, 16_777_217), (1, -1)])
  func wrongBatchesAreRefused(sequences: Int, shared: Int) throws {
    let plan = try Plan(policy: .balanced, shape: Self.shape)
    #expect(throws: PolicyError.self) {
      try plan.estimate(context: 1 << 24, threads: 1, sequences: sequences, shared: shared)
    }
  }

  private func slabBytes(pages: Int, pageBytes: Int) -> Int {
    let perSlab = SlabGeometry.pagesPerSlab(pageBytes: pageBytes)
    return (pages + perSlab - 1) / perSlab * SlabGeometry.slabBytes(pageBytes: pageBytes)
  }
}
