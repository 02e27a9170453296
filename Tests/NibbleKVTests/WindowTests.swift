import NibbleKV
import Testing

/// Layers with a sliding window drop what lies behind it.
@Suite struct WindowTests {
  static let window = 300
  static let shape = ModelShape(
    layers: 2,
    queryHeads: 4,
    kvHeads: 2,
    headDim: 64,
    slidingWindows: [nil, window]
  )
  static let options = AttentionOptions(window: window)

  private static func filled(
    _ policy: String,
    tokens: Int,
    chunk: Int,
    windows: Bool = true
  ) throws -> Filled {
    var shape = shape
    if !windows { shape.slidingWindows = [nil, nil] }
    return try Filled(
      shape: shape,
      policy: Policy(argument: policy),
      tokens: tokens,
      chunk: chunk,
      seed: 4
    )
  }

  @Test(
    arguments: ["rotated:4", "float16", "linear:4@recent=200", "linear:4@sinks=0@recent=16"],
    [1, 100, 1_500]
  )
  func attentionSeesWhatItSawBefore(policy: String, chunk: Int) throws {
    // A cache that knows of no window keeps everything; the option hides it.
    let dropping = try Self.filled(policy, tokens: 3_000, chunk: chunk)
    let keeping = try Self.filled(policy, tokens: 3_000, chunk: chunk, windows: false)
    let queries = randomQueries(chunk, shape: Self.shape)
    #expect(
      try dropping.attend(queries, layer: 1, options: Self.options)
        == keeping.attend(queries, layer: 1, options: Self.options)
    )
    #expect(try dropping.attend(queries, layer: 0) == keeping.attend(queries, layer: 0))
    let held = dropping.sequence.statistics
    let all = keeping.sequence.statistics
    #expect(held.tokens == 3_000)
    #expect(held.pageBytes + held.tailBytes < (all.pageBytes + all.tailBytes) * 19 / 20)
    let pages = Self.window + chunk + 2 * 364
    #expect(dropping.cache.statistics.pageCount <= keeping.cache.statistics.pageCount / 2 + pages)
  }

  @Test func memoryDoesNotGrowWithTheContext() throws {
    let shape = ModelShape(
      layers: 1,
      queryHeads: 2,
      kvHeads: 2,
      headDim: 64,
      slidingWindows: [Self.window]
    )
    for policy in ["rotated:4", "float16"] {
      let counts = try [2_000, 4_000, 8_000].map {
        try Filled(shape: shape, policy: Policy(argument: policy), tokens: $0, chunk: 50)
          .cache.statistics.pageCount
      }
      // Sinks, the window, the recent tokens, a page of slack at both ends.
      #expect(counts.allSatisfy { $0 <= 1 + (Self.window + 64 + 50) / 64 + 3 })
      #expect(counts.max()! - counts.min()! <= 1)
    }
  }

  @Test func tokensCanBeTakenBack() throws {
    let dropping = try Self.filled("rotated:4", tokens: 2_000, chunk: 10)
    let keeping = try Self.filled("rotated:4", tokens: 2_000, chunk: 10, windows: false)
    let queries = randomQueries(1, shape: Self.shape)
    for filled in [dropping, keeping] { try filled.sequence.truncate(to: 2_000 - 64) }
    #expect(
      try dropping.attend(queries, layer: 1, options: Self.options)
        == keeping.attend(queries, layer: 1, options: Self.options)
    )
    let before = dropping.sequence.statistics
    let error = #expect(throws: KVError.self) { try dropping.sequence.truncate(to: 1_000) }
    guard case .positionDropped(layer: 1, position: 701, let held) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(held > 701)
    #expect(dropping.sequence.statistics == before)
    try dropping.sequence.truncate(to: 0)
    #expect(dropping.sequence.tokenCount == 0)
    let rows = TokenRows(500, shape: Self.shape, seed: 8)
    let fresh = dropping.cache.makeSequence()
    for each in [dropping.sequence, fresh] { try rows.append(0..<500, to: each, layer: 1) }
    #expect(
      try dropping.sequence.attended(queries, layer: 1, options: Self.options)
        == fresh.attended(queries, layer: 1, options: Self.options)
    )
  }

  @Test func whatWasDroppedIsNotAskedFor() throws {
    let filled = try Self.filled("rotated:4", tokens: 2_000, chunk: 10)
    for (count, options) in [(1, AttentionOptions.standard), (1_000, Self.options)] {
      let queries = randomQueries(count, shape: Self.shape)
      let error = #expect(throws: KVError.self) {
        try filled.attend(queries, layer: 1, options: options)
      }
      guard case .positionDropped(layer: 1, _, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
    }
    let queries = randomQueries(1, shape: Self.shape)
    let narrow = AttentionOptions(window: 100)
    #expect(try filled.attend(queries, layer: 1, options: narrow).allSatisfy(\.isFinite))
  }

  @Test(arguments: ["rotated:4", "float16", "balanced"], [1, 64, 512])
  func thePlannerKnows(policy: String, chunk: Int) throws {
    let filled = try Self.filled(policy, tokens: 6_000, chunk: chunk)
    let estimate = try filled.cache.plan.estimate(context: 6_000, chunk: chunk, threads: 1)
    #expect(filled.cache.statistics.heldBytes <= estimate.total)
    let statistics = filled.sequence.statistics
    let planned = estimate.codes + estimate.tables + estimate.scales + estimate.tail
    let held = statistics.pageBytes + statistics.tailBytes
    #expect(held <= planned && held > planned * 8 / 10)
  }
}
