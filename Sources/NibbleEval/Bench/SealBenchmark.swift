public import NibbleKV

/// A row of `bench seal`; the names of its JSON fields are fixed by Specs/cli.md.
public struct SealRow: Encodable, Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Tokens that were decoded.
  public var tokens: Int
  /// Layers that were decoded.
  public var layers: Int
  /// Query heads.
  public var queryHeads: Int
  /// KV heads.
  public var kvHeads: Int
  /// Channels of a head.
  public var headDim: Int
  /// Threads of the cache.
  public var threads: Int
  /// The instruction set that ran.
  public var isa: String
  /// Times that the tokens were decoded.
  public var runs: Int
  /// Median over the tokens of a token's time, in microseconds.
  public var medianMicroseconds: Double
  /// The time that 99 of 100 tokens do not exceed.
  public var p99Microseconds: Double
  /// The time of the slowest token.
  public var maxMicroseconds: Double
  /// `p99Microseconds` over `medianMicroseconds`.
  public var p99OverMedian: Double
  /// `maxMicroseconds` over `medianMicroseconds`.
  public var maxOverMedian: Double
  /// Pages that were sealed, all layers.
  public var pagesSealed: Int
  /// Bytes of all pages, tails and sinks at the end.
  public var pageBytes: Int

  private enum CodingKeys: String, CodingKey {
    case policy, tokens, layers
    case queryHeads = "query_heads"
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case threads, isa, runs
    case medianMicroseconds = "median_us"
    case p99Microseconds = "p99_us"
    case maxMicroseconds = "max_us"
    case p99OverMedian = "p99_over_median"
    case maxOverMedian = "max_over_median"
    case pagesSealed = "pages_sealed"
    case pageBytes = "page_bytes"
  }
}

/// Decodes tokens one by one and tells how much longer those take that seal pages.
///
/// A token's time is that of append and attention in all ``layers``. Its work is the same in every run, so its time is
/// the median of the runs; what disturbs one run alone does not count. Policies are taken in turn, run by run.
public struct SealBenchmark: Sendable {
  /// The model's shape.
  public var shape: ModelShape
  /// Layers that are decoded: the middle ones, which rules for the first and the last leave alone.
  public var layers = 1
  /// Threads of the cache.
  public var threads: Int
  /// Times that the tokens are decoded.
  public var runs = 3

  /// Creates a benchmark of one layer and three runs.
  public init(shape: ModelShape, threads: Int) {
    self.shape = shape
    self.threads = threads
  }

  /// Measures every policy.
  ///
  /// - Parameters:
  ///   - policies: What is compared.
  ///   - tokens: Tokens to decode.
  ///   - progress: Told now and then.
  /// - Returns: One row for each policy.
  /// - Throws: `KVError` or ``EvaluationError``.
  /// - Complexity: O(runs · policies · layers · tokens² · queryHeads · headDim).
  public func run(
    policies: [Policy],
    tokens: Int,
    progress: ProgressHandler = { _ in }
  ) throws -> [SealRow] {
    try check("tokens", tokens, in: 1...ModelShape.tokenLimit)
    try check("layers", layers, in: 1...max(1, shape.layers))
    try check("runs", runs, in: 1...1_000)
    let caches = try BenchmarkCaches.make(policies, shape: shape, threads: threads)
    let chunks = try RandomChunks(count: 4, tokens: 512, shape: shape, seed: 41)
    let passes = try BenchmarkCaches.inTurn(caches, runs: runs) { cache, phase in
      try decode(cache, tokens, chunks) { done in
        progress(WorkProgress(phase: phase, completed: done, total: tokens))
      }
    }
    return caches.indices.map { row(caches[$0], tokens, passes[$0]) }
  }

  private func row(_ cache: KVCache, _ tokens: Int, _ passes: [Pass]) -> SealRow {
    let times = (0..<tokens).map { token in median(passes.map { $0.times[token] }) }.sorted()
    let middle = quantile(0.5, ofSorted: times)
    let p99 = quantile(0.99, ofSorted: times)
    let longest = times.last ?? middle
    return SealRow(
      policy: cache.plan.policy.label,
      tokens: tokens,
      layers: layers,
      queryHeads: shape.queryHeads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      threads: threads,
      isa: KVCache.instructionSet,
      runs: passes.count,
      medianMicroseconds: middle,
      p99Microseconds: p99,
      maxMicroseconds: longest,
      p99OverMedian: p99 / middle,
      maxOverMedian: longest / middle,
      pagesSealed: passes.last?.pagesSealed ?? 0,
      pageBytes: passes.last?.pageBytes ?? 0
    )
  }
}

extension SealBenchmark {
  /// One decoding of all tokens.
  private struct Pass {
    /// Microseconds of each token.
    var times: [Double] = []
    var pagesSealed = 0
    var pageBytes = 0
  }

  private func decode(
    _ cache: KVCache,
    _ tokens: Int,
    _ chunks: RandomChunks,
    progress: (Int) -> Void
  ) throws(KVError) -> Pass {
    var random = RandomRows(seed: 43)
    let queries = random.normal(shape.queryHeads * shape.headDim)
    var output = [Float](repeating: 0, count: queries.count)
    let first = (shape.layers - layers) / 2
    let sequence = cache.makeSequence()
    var pass = Pass()
    pass.times.reserveCapacity(tokens)
    for token in 0..<tokens {
      let (chunk, row) = token.quotientAndRemainder(dividingBy: chunks.tokens)
      let start = ContinuousClock.now
      for layer in first..<first + layers {
        try chunks.append(chunk + layer, rows: row..<row + 1, to: sequence, layer: layer)
        var target = output.mutableSpan
        try sequence.attend(queries: queries.span, layer: layer, into: &target)
      }
      pass.times.append((ContinuousClock.now - start) / .microseconds(1))
      if row == 0 { progress(token) }
    }
    let statistics = sequence.statistics
    pass.pagesSealed = statistics.compressedTokens / cache.plan.policy.pageTokens * layers
    pass.pageBytes = statistics.totalBytes
    return pass
  }
}
