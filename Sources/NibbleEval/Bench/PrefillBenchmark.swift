public import NibbleKV

/// A row of `bench prefill`; the names of its JSON fields are fixed by Specs/cli.md.
public struct PrefillRow: Encodable, Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Tokens of the context.
  public var tokens: Int
  /// Tokens of one step.
  public var chunk: Int
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
  /// Median time of the attention of all chunks, one layer, in microseconds.
  public var medianMicroseconds: Double
  /// The shortest such time.
  public var minMicroseconds: Double
  /// Median time of all appends, encoding included, in microseconds.
  public var appendMedianMicroseconds: Double
  /// Contexts that were timed.
  public var runs: Int
  /// `tokens` over the median times of append and attention together.
  public var tokensPerSecond: Double
  /// Bytes of the layer's pages, tail and sinks at the end.
  public var pageBytes: Int
  /// Norm of the difference to attention in double precision over the decoded pages, over the norm of the latter: some
  /// rows of the last chunk.
  public var relativeError: Double
  /// Tokens of the context that the error was measured on.
  public var relativeErrorTokens: Int

  private enum CodingKeys: String, CodingKey {
    case policy, tokens, chunk
    case queryHeads = "query_heads"
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case threads, isa
    case medianMicroseconds = "median_us"
    case minMicroseconds = "min_us"
    case appendMedianMicroseconds = "append_median_us"
    case runs
    case tokensPerSecond = "tokens_per_second"
    case pageBytes = "page_bytes"
    case relativeError = "relative_error"
    case relativeErrorTokens = "relative_error_tokens"
  }
}

/// Times the prefill of one layer: a context is appended in chunks, and each chunk's queries attend to all before them.
///
/// Policies are taken in turn, context by context. The layer is the middle one, as in ``DecodeBenchmark``.
public struct PrefillBenchmark: Sendable {
  /// The model's shape; one of its layers is filled.
  public var shape: ModelShape
  /// Tokens of one step.
  public var chunk = 512
  /// Threads of the cache.
  public var threads: Int
  /// Contexts to time with each policy.
  public var runs = 3

  /// Creates a benchmark of chunks of 512 tokens and three runs.
  public init(shape: ModelShape, threads: Int) {
    self.shape = shape
    self.threads = threads
  }

  /// Measures every policy.
  ///
  /// - Parameters:
  ///   - policies: What is compared.
  ///   - context: Tokens.
  ///   - progress: Told after every chunk.
  /// - Returns: One row for each policy.
  /// - Throws: `KVError` or ``EvaluationError``.
  /// - Complexity: O(runs · policies · context² · queryHeads · headDim).
  public func run(
    policies: [Policy],
    context: Int,
    progress: ProgressHandler = { _ in }
  ) throws -> [PrefillRow] {
    try check("context", context, in: 1...ModelShape.tokenLimit)
    try check("chunk", chunk, in: 1...65_536)
    try check("runs", runs, in: 1...1_000)
    let caches = try BenchmarkCaches.make(policies, shape: shape, threads: threads)
    let work = try Work(shape: shape, chunk: chunk)
    // The error comes first: its untimed contexts also warm up memory and threads.
    let errors = try caches.map { try relativeError($0, context, work) }
    let times = try BenchmarkCaches.inTurn(caches, runs: runs) { cache, phase in
      try measure(cache, context, work) { done in
        progress(WorkProgress(phase: phase, completed: done, total: context))
      }
    }
    return caches.indices.map { row(caches[$0], context, times[$0], errors[$0]) }
  }

  private var layer: Int { shape.layers / 2 }

  private func row(
    _ cache: KVCache,
    _ context: Int,
    _ times: [Times],
    _ error: (relative: Double, tokens: Int)
  ) -> PrefillRow {
    let attention = times.map(\.attention)
    let middle = median(attention)
    let append = median(times.map(\.append))
    return PrefillRow(
      policy: cache.plan.policy.label,
      tokens: context,
      chunk: chunk,
      queryHeads: shape.queryHeads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      threads: threads,
      isa: KVCache.instructionSet,
      medianMicroseconds: middle,
      minMicroseconds: attention.min() ?? middle,
      appendMedianMicroseconds: append,
      runs: times.count,
      tokensPerSecond: Double(context) / ((middle + append) * 1e-6),
      pageBytes: times.last?.pageBytes ?? 0,
      relativeError: error.relative,
      relativeErrorTokens: error.tokens
    )
  }
}

extension PrefillBenchmark {
  /// The rows of all runs.
  private struct Work {
    let chunks: RandomChunks
    let queries: [Float]

    init(shape: ModelShape, chunk: Int) throws(EvaluationError) {
      chunks = try RandomChunks(count: 8, tokens: chunk, shape: shape, seed: 31)
      try check(
        "values of one chunk's queries",
        chunk * shape.queryHeads * shape.headDim,
        in: 1...RandomChunks.mostValues
      )
      var random = RandomRows(seed: 37)
      queries = random.normal(chunk * shape.queryHeads * shape.headDim)
    }
  }

  /// Microseconds of one context.
  private struct Times {
    var append = 0.0
    var attention = 0.0
    var pageBytes = 0
  }

  private func measure(
    _ cache: KVCache,
    _ context: Int,
    _ work: Work,
    progress: (Int) -> Void
  ) throws(KVError) -> Times {
    let sequence = cache.makeSequence()
    var output: [Float] = []
    var times = Times()
    for (index, first) in stride(from: 0, to: context, by: chunk).enumerated() {
      let count = min(chunk, context - first)
      let length = count * shape.queryHeads * shape.headDim
      if output.count != length { output = [Float](repeating: 0, count: length) }
      let start = ContinuousClock.now
      try work.chunks.append(index, rows: 0..<count, to: sequence, layer: layer)
      let middle = ContinuousClock.now
      try attend(sequence, work.queries, into: &output)
      times.append += (middle - start) / .microseconds(1)
      times.attention += (ContinuousClock.now - middle) / .microseconds(1)
      progress(first + count)
    }
    times.pageBytes = sequence.statistics.totalBytes
    return times
  }

  /// Attends with as many queries as the output has rows.
  private func attend(
    _ sequence: KVSequence,
    _ queries: [Float],
    into output: inout [Float]
  ) throws(KVError) {
    let queries = queries.span.extracting(0..<output.count)
    var target = output.mutableSpan
    try sequence.attend(queries: queries, layer: layer, into: &target)
  }

  /// The first, the middle and the last row of the last chunk.
  private func relativeError(
    _ cache: KVCache,
    _ context: Int,
    _ work: Work
  ) throws(KVError) -> (relative: Double, tokens: Int) {
    let tokens = min(context, AttentionError.mostTokens(of: shape))
    let last = (tokens - 1) % chunk + 1
    let sequence = cache.makeSequence()
    try work.chunks.fill(sequence, layers: layer..<layer + 1, context: tokens)
    let length = last * shape.queryHeads * shape.headDim
    var output = [Float](repeating: 0, count: length)
    try attend(sequence, work.queries, into: &output)
    let error = try AttentionError.relative(
      output,
      queries: Array(work.queries[..<length]),
      rows: Set([0, last / 2, last - 1]).sorted(),
      in: sequence,
      layer: layer
    )
    return (error, tokens)
  }
}
