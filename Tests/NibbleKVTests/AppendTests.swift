import NibbleKV
import Testing

/// What a sequence holds depends on its tokens, not on the portions in which they came.
@Suite struct AppendTests {
  static let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 32)

  /// Pages are sealed at the beginning of an append; so portions that end alike leave the same.
  @Test(arguments: [
    "rotated:4@mean=removed@recent=20@sinks=3", "linear:4@recent=0@sinks=0@page_tokens=48",
    "clustered:3@recent=100@sinks=70", "int8@exact_rows=bfloat16@recent=7",
  ])
  func portionsDoNotMatter(policy: String) throws {
    let rows = TokenRows(400, shape: Self.shape, seed: 1, mean: 0.5)
    let cache = try KVCache(model: Self.shape, policy: Policy(argument: policy), threads: 2)
    let sequences = try [399, 1, 7, 64, 65, 250].map { chunk in
      let sequence = cache.makeSequence()
      try rows.append(0..<399, by: chunk, to: sequence)
      try rows.append(399..<400, to: sequence)
      return sequence
    }
    let queries = randomQueries(2, shape: Self.shape)
    let expected = try sequences[0].attended(queries)
    let decoded = try sequences[0].decodedRows(layer: 0)
    #expect(sequences[0].statistics.compressedTokens > 0)
    for sequence in sequences {
      #expect(sequence.statistics == sequences[0].statistics)
      #expect(try sequence.attended(queries) == expected)
      #expect(try sequence.decodedRows(layer: 0) == decoded)
    }
  }

  @Test func pagesAreSealedByTheNextAppend() throws {
    let policy = try Policy(argument: "linear:4@recent=10@sinks=0")
    let sequence = try KVCache(model: Self.shape, policy: policy, threads: 1).makeSequence()
    let rows = TokenRows(301, shape: Self.shape, seed: 2)
    try rows.append(0..<300, to: sequence)
    #expect(sequence.statistics.compressedTokens == 0)
    #expect(sequence.statistics.bitsPerValue == 0)
    try rows.append(300..<301, to: sequence)
    #expect(sequence.statistics.compressedTokens == 4 * 64)
  }

  @Test(arguments: ["rotated:4@mean=removed", "float32", "k=int8+v=clustered:4"])
  func aLongAppendIsTakenInSteps(policy: String) throws {
    let cache = try KVCache(model: Self.shape, policy: Policy(argument: policy), threads: 2)
    let rows = TokenRows(5000, shape: Self.shape, seed: 3)
    let whole = cache.makeSequence()
    try rows.append(0..<10, to: whole)
    let stepped = whole.fork()
    try rows.append(10..<5000, to: whole)
    try rows.append(10..<5000, by: 1024, to: stepped)
    #expect(whole.tokenCount == 5000)
    #expect(whole.statistics == stepped.statistics)
    let queries = randomQueries(3, shape: Self.shape)
    #expect(try whole.attended(queries) == stepped.attended(queries))
    #expect(try whole.decodedRows(layer: 0) == stepped.decodedRows(layer: 0))
  }

  @Test func otherFormatsEqualFloats() throws {
    let cache = try KVCache(model: Self.shape, policy: .balanced, threads: 1)
    let rows = TokenRows(200, shape: Self.shape, seed: 4)
    let queries = randomQueries(shape: Self.shape)

    let brain = cache.makeSequence()
    let brainKeys = rows.keys.map { BFloat16($0) }
    let brainValues = rows.values.map { BFloat16($0) }
    try brain.append(keys: brainKeys.span, values: brainValues.span, layer: 0)
    let wide = cache.makeSequence()
    let wideKeys = BFloat16.widened(brainKeys.span)
    let wideValues = BFloat16.widened(brainValues.span)
    try wide.append(keys: wideKeys.span, values: wideValues.span, layer: 0)
    #expect(try brain.attended(queries) == wide.attended(queries))

    #if !(os(macOS) && arch(x86_64))
    let half = cache.makeSequence()
    let halfKeys = rows.keys.map { Float16($0) }
    let halfValues = rows.values.map { Float16($0) }
    try half.append(keys: halfKeys.span, values: halfValues.span, layer: 0)
    let plain = cache.makeSequence()
    try rows.append(0..<200, to: plain)
    // The tail holds half precision anyway.
    #expect(try half.attended(queries) == plain.attended(queries))
    #endif
  }

  @Test func roundingToBFloat16() {
    #expect(BFloat16(1).bitPattern == 0x3f80)
    #expect(BFloat16(Float(bitPattern: 0x3f80_8000)).bitPattern == 0x3f80)  // a tie goes to even
    #expect(BFloat16(Float(bitPattern: 0x3f81_8000)).bitPattern == 0x3f82)
    #expect(BFloat16(Float(bitPattern: 0x3f80_8001)).bitPattern == 0x3f81)
    #expect(BFloat16(.infinity).bitPattern == 0x7f80)
    let quiet = BFloat16(Float(bitPattern: 0x7f80_0001))
    #expect(BFloat16.widened([quiet].span)[0].isNaN)
    let none: [BFloat16] = []
    #expect(BFloat16.widened(none.span).isEmpty)
  }

  @Test func nothingIsAppended() throws {
    let sequence = try KVCache(model: Self.shape, policy: .small, threads: 1).makeSequence()
    let none: [Float] = []
    try sequence.append(keys: none.span, values: none.span, layer: 0)
    #expect(sequence.tokenCount == 0)
    #expect(try sequence.attended(none) == [])
    #expect(sequence.statistics.totalBytes == 0)
  }

  // MARK: - Statistics

  /// A head's page has 64 x 64 codes of keys and 64 scales (4,096 + 128 bytes), 64 x 64 / 2 of values with scales and zero
  /// points (2,048 + 256): 13,056 bytes for two heads.
  ///
  /// 600 tokens by 100: the last append finds 500 and seals (500 - 4 - 64) / 64 = 6 pages of the 10 that 596 tokens begin.
  @Test func statisticsByHand() throws {
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
    let policy = Policy(keys: .int8, values: .linear(4))
    let cache = try KVCache(model: shape, policy: policy, threads: 1)
    let scratchBytes = cache.statistics.heldBytes
    let sequence = cache.makeSequence()
    let rows = TokenRows(600, shape: shape, seed: 5)
    for layer in 0..<2 { try rows.append(0..<600, by: 100, to: sequence, layer: layer) }

    let statistics = sequence.statistics
    #expect(statistics.tokens == 600)
    #expect(statistics.compressedTokens == 6 * 64)
    #expect(statistics.pageBytes == 2 * 6 * 13_056)
    #expect(statistics.tailBytes == 2 * 4 * 32_768)
    #expect(statistics.sinkBytes == 2 * 8_192)
    #expect(statistics.exactBytes == 600 * 2 * 2 * 64 * 2 * 2)
    let bits = Double(13_056 * 8) / Double(64 * 64 * 4)
    #expect(statistics.bitsPerValue == bits)
    #expect(
      statistics.totalBytes
        == statistics.pageBytes + statistics.tailBytes + statistics.sinkBytes
    )

    let estimate = try cache.plan.estimate(context: 600, chunk: 100, threads: 1)
    #expect(estimate.codes + estimate.tables + estimate.scales == statistics.pageBytes)
    #expect(estimate.tail == statistics.tailBytes)
    #expect(estimate.sinks == statistics.sinkBytes)
    #expect(estimate.compressedTokens == statistics.compressedTokens)
    #expect(estimate.bitsPerValue == statistics.bitsPerValue)

    #expect(cache.statistics.pageCount == 2 * (6 + 4 + 1))
    #expect(cache.statistics.sequenceCount == 1)
    // Pages of three sizes share a slab; the estimate has another one for holes.
    #expect(cache.statistics.heldBytes == scratchBytes + (2 << 20))
    #expect(estimate.total - estimate.scratch == 2 * (2 << 20))
  }

  @Test(arguments: ["rotated:4@mean=removed", "clustered:3", "linear:2@group=32"])
  func statisticsEqualTheEstimate(text: String) throws {
    let shape = ModelShape(layers: 3, queryHeads: 2, kvHeads: 2, headDim: 64)
    let cache = try KVCache(model: shape, policy: Policy(argument: text), threads: 1)
    let sequence = cache.makeSequence()
    let rows = TokenRows(1000, shape: shape, seed: 6)
    for layer in 0..<3 { try rows.append(0..<1000, by: 100, to: sequence, layer: layer) }
    let statistics = sequence.statistics
    let estimate = try cache.plan.estimate(context: 1000, chunk: 100, threads: 1)
    #expect(estimate.codes + estimate.tables + estimate.scales == statistics.pageBytes)
    #expect(estimate.sinks == statistics.sinkBytes)
    #expect(estimate.tail >= statistics.tailBytes)
    #expect(estimate.compressedTokens == statistics.compressedTokens)
    #expect(estimate.bitsPerValue == statistics.bitsPerValue)
    #expect(estimate.float16Bytes == statistics.exactBytes)
  }
}
