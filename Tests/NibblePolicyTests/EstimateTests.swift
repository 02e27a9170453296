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

  private func slabBytes(pages: Int, pageBytes: Int) -> Int {
    let perSlab = SlabGeometry.pagesPerSlab(pageBytes: pageBytes)
    return (pages + perSlab - 1) / perSlab * SlabGeometry.slabBytes(pageBytes: pageBytes)
  }
}
