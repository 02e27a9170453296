import NibbleKV
import Testing

/// The largest norm of rows of `dim` values.
private func largestNorm(_ rows: [Float], dim: Int) -> Float {
  var largest: Float = 0
  for first in stride(from: 0, to: rows.count, by: dim) {
    var square: Float = 0
    for value in rows[first..<first + dim] { square += value * value }
    largest = max(largest, square)
  }
  return largest.squareRoot()
}

/// What attention leaves out with `skip_below` is little, and the same whatever the threads do.
@Suite struct SkippingTests {
  /// Rows whose keys lie near one of two places: one that queries look for, and one far from it.
  struct ClusteredRows {
    let shape: ModelShape
    let rows: TokenRows
    let queries: [Float]
    /// Largest norm of a value row.
    let norm: Float

    /// Tokens that are not near score `depth` less, and keys scatter by `noise` about their place.
    init(
      _ tokens: Int,
      shape: ModelShape,
      queryTokens: Int = 1,
      depth: Float = 60,
      noise: Float = 0.3,
      seed: UInt64 = 1,
      isNear: (Int) -> Bool = { $0 % 320 >= 256 }
    ) {
      var random = SeededRandom(seed)
      let dim = shape.headDim
      let place = (0..<dim).map { _ in Bool.random(using: &random) ? Float(1) : -1 }
      let root = Float(dim).squareRoot()
      let far = 1 - depth / (2 * root)
      var keys: [Float] = []
      for token in 0..<tokens {
        let size = isNear(token) || token < 4 || token >= tokens - 80 ? 1 : far
        for _ in 0..<shape.kvHeads {
          keys += place.map { $0 * size + noise * random.normal() }
        }
      }
      let values = random.normals(keys.count)
      queries = (0..<queryTokens * shape.queryHeads).flatMap { _ in
        place.map { 2 * $0 + 0.2 * random.normal() }
      }
      self.shape = shape
      rows = TokenRows(keys: keys, values: values, rowLength: shape.kvHeads * dim)
      norm = largestNorm(values, dim: dim)
    }

    func sequence(
      _ policy: String,
      threads: Int = 1,
      catalogue: CodecCatalogue = .standard
    ) throws -> KVSequence {
      let cache = try KVCache(
        model: shape,
        policy: Policy(argument: policy, catalogue: catalogue),
        threads: threads,
        catalogue: catalogue
      )
      let sequence = cache.makeSequence()
      try rows.append(0..<rows.count, by: 100, to: sequence)
      return sequence
    }
  }

  private static func shape(group: Int, headDim: Int = 64) -> ModelShape {
    ModelShape(
      layers: 1,
      queryHeads: 2 * group,
      kvHeads: 2,
      headDim: headDim,
      fingerprint: "made up \(headDim)"
    )
  }

  /// The largest norm of a difference of output rows.
  private func largestDifference(_ a: [Float], _ b: [Float], dim: Int) -> Float {
    let differences: [Float] = zip(a, b).map { $0 - $1 }
    return largestNorm(differences, dim: dim)
  }

  static let policies = [
    "linear:4", "rotated:3", "rotated:4@mean=removed", "trellis:3", "clustered:3", "int8",
    "bcq:4", "linear:4@axis=channel@group=32", "linear:3@outliers=1", "trellis:3@rotation=aligned",
    "rotated:4@rotation=aligned", "k=trellis:4+v=float16", "trellis:3@page_tokens=128",
    "int8@page_tokens=16",
  ]

  @Test(arguments: policies, [1, 4])
  func farPagesAreLeftOut(policy: String, group: Int) throws {
    let share = 0.01
    let shape = Self.shape(group: group)
    let catalogue = try AlignedTests.catalogue(of: shape)
    let data = ClusteredRows(1_000, shape: shape, queryTokens: 20)
    let plain = try data.sequence(policy, catalogue: catalogue)
    let skipping = try data.sequence(policy + "@skip_below=\(share)", catalogue: catalogue)
    var skipped = 0
    for options in [
      AttentionOptions.standard, AttentionOptions(window: 600), AttentionOptions(softCap: 30),
    ] {
      for count in [1, 20] {
        let queries = Array(data.queries.prefix(count * shape.queryHeads * shape.headDim))
        let difference = largestDifference(
          try skipping.attended(queries, options: options),
          try plain.attended(queries, options: options),
          dim: shape.headDim
        )
        #expect(difference <= Float(2 * share) * data.norm, "\(options), \(count) queries")
        let counts = skipping.cache.statistics.skipping
        #expect(counts.skippedPages > skipped, "\(options), \(count) queries")
        #expect(counts.attendedPages > 0)
        skipped = counts.skippedPages
      }
    }
    #expect(plain.cache.statistics.skipping.attendedPages == 0)
  }

  /// Pages of all depths, so that those at the brink are left out too, and values that show it: what is left out of the
  /// far ones moves the output by twice its share.
  @Test(arguments: [0.4, 0.1, 0.01], [1, 20])
  func theBoundHoldsAtTheBrink(share: Double, queryTokens: Int) throws {
    let shape = Self.shape(group: 2)
    var changed = false
    for depth in stride(from: Float(2), to: 16, by: 0.5) {
      let data = ClusteredRows(900, shape: shape, queryTokens: queryTokens, depth: depth, noise: 0)
      let flat = data.withValues { $0 % 320 >= 256 ? 1 : -1 }
      let plain = try flat.sequence("int8")
      let skipping = try flat.sequence("int8@skip_below=\(share)")
      let a = try skipping.attended(data.queries)
      let b = try plain.attended(data.queries)
      let difference = zip(a, b).map { abs($0 - $1) }.max() ?? 0
      // Scores of 16-bit queries are almost exact, and each of the two kinds has half of the share.
      #expect(difference <= Float(1.5 * share) + 1e-4, "depth \(depth)")
      changed = changed || difference > Float(share) / 20
    }
    #expect(changed)
  }

  /// Noise hides from the summaries what the weights show.
  @Test(arguments: ["int8", "trellis:3", "linear:4@mean=removed"], [1, 20])
  func valuesOfSmallWeightsAreLeftOut(policy: String, queryTokens: Int) throws {
    let shape = Self.shape(group: 2)
    let data = ClusteredRows(
      1_000,
      shape: shape,
      queryTokens: queryTokens,
      depth: 16,
      noise: 1,
      isNear: { _ in false }
    )
    let plain = try data.sequence(policy)
    let skipping = try data.sequence(policy + "@skip_below=0.1")
    let difference = largestDifference(
      try skipping.attended(data.queries),
      try plain.attended(data.queries),
      dim: shape.headDim
    )
    let counts = skipping.cache.statistics.skipping
    #expect(counts.skippedStretches > 0)
    #expect(difference > 0)
    #expect(difference <= 0.2 * data.norm)
  }

  @Test(arguments: ["rotated:3", "int8", "trellis:2@mean=removed"], [0.001, 0.1, 0.49])
  func randomRowsStayWithinTheBound(policy: String, share: Double) throws {
    let shape = Self.shape(group: 3, headDim: 72)
    let data = ClusteredRows(700, shape: shape, depth: 0, noise: 1)
    let plain = try data.sequence(policy)
    let skipping = try data.sequence(policy + "@skip_below=\(share)")
    for (count, size) in [(1, Float(1)), (30, 1), (1, 8), (30, 8)] {
      let queries = randomQueries(count, shape: shape).map { $0 * size }
      let difference = largestDifference(
        try skipping.attended(queries),
        try plain.attended(queries),
        dim: shape.headDim
      )
      #expect(difference <= Float(2 * share) * data.norm)
    }
  }

  /// Long enough for segments of pages, of which only one holds the sinks.
  @Test(arguments: ["trellis:3", "rotated:4@mean=removed"])
  func threadsDoNotChangeAnything(policy: String) throws {
    let shape = Self.shape(group: 2)
    let data = ClusteredRows(5_000, shape: shape, queryTokens: 30, depth: 60)
    let text = policy + "@page_tokens=16@skip_below=0.01"
    let one = try data.sequence(text)
    let five = try data.sequence(text, threads: 5)
    let plain = try data.sequence(policy + "@page_tokens=16")
    for count in [1, 30] {
      let queries = Array(data.queries.prefix(count * shape.queryHeads * shape.headDim))
      let output = try one.attended(queries)
      #expect(try five.attended(queries) == output)
      #expect(
        largestDifference(output, try plain.attended(queries), dim: shape.headDim)
          <= 0.02 * data.norm
      )
    }
    let counts = one.cache.statistics.skipping
    #expect(counts.skippedPages > counts.attendedPages)
    #expect(five.cache.statistics.skipping == counts)
  }

  /// Pages that are decoded for a truncation and encoded again have summaries of what they hold then.
  @Test func truncatedAndForkedPages() throws {
    let shape = Self.shape(group: 2)
    let data = ClusteredRows(1_000, shape: shape)
    let outputs = try ["", "@skip_below=0.01"].map { option -> [[Float]] in
      let trunk = try data.sequence("rotated:4@mean=removed@recent=32" + option)
      let fork = trunk.fork()
      try trunk.truncate(to: 470)
      try data.rows.append(700..<1_000, by: 1, to: trunk)
      return [try trunk.attended(data.queries), try fork.attended(data.queries)]
    }
    for (plain, skipping) in zip(outputs[0], outputs[1]) {
      #expect(largestDifference(plain, skipping, dim: shape.headDim) <= 0.02 * data.norm)
    }
  }

  /// Codecs that attention does not read in place are attended to as ever, bit for bit.
  @Test(arguments: ["k=microscaling+v=linear:4", "float32", "k=linear:4+v=pyramid:4"])
  func otherPagesAreLeftAlone(policy: String) throws {
    let shape = Self.shape(group: 2)
    let data = ClusteredRows(600, shape: shape)
    let plain = try data.sequence(policy)
    let skipping = try data.sequence(policy + "@skip_below=0.4")
    #expect(try skipping.attended(data.queries) == plain.attended(data.queries))
    #expect(skipping.cache.statistics.skipping.skippedPages == 0)
    #expect(skipping.statistics.totalBytes == plain.statistics.totalBytes)
  }

  /// A centre in float16 and a radius in bfloat16 for 16 channels.
  @Test func summariesAreCounted() throws {
    let shape = Self.shape(group: 1, headDim: 72)
    let plain = try Plan(policy: Policy(argument: "int8"), shape: shape)
    let skipping = try Plan(policy: Policy(argument: "int8@skip_below=0.01"), shape: shape)
    let bytes = plain.layers[0].pageLayout.byteCount
    let summary = 72 * 2 + 5 * 2 + 2
    // Padded head by head.
    let head = (bytes / 2 - plain.layers[0].pageLayout.paddingBytes / 2 + summary + 63) / 64 * 64
    #expect(skipping.layers[0].pageLayout.byteCount == 2 * head)
    #expect(skipping.bitsPerValue > plain.bitsPerValue)
    let estimate = try skipping.estimate(context: 1_000, threads: 1)
    let other = try plain.estimate(context: 1_000, threads: 1)
    let pages = estimate.compressedTokens / 64
    #expect(estimate.scales - other.scales == pages * 2 * summary)
  }
}

extension SkippingTests.ClusteredRows {
  /// The same keys; all values of a token are `value` of it.
  fileprivate func withValues(_ value: (Int) -> Float) -> Self {
    let rowLength = shape.kvHeads * shape.headDim
    let values = (0..<rows.count).flatMap { Array(repeating: value($0), count: rowLength) }
    return Self(
      shape: shape,
      rows: TokenRows(keys: rows.keys, values: values, rowLength: rowLength),
      queries: queries,
      norm: norm
    )
  }

  private init(shape: ModelShape, rows: TokenRows, queries: [Float], norm: Float) {
    self.shape = shape
    self.rows = rows
    self.queries = queries
    self.norm = norm
  }
}
