public import NibbleKV

/// A row of `bench decode`; the names of its JSON fields are fixed by Specs/cli.md.
public struct DecodeRow: Encodable, Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Sequences that a step attends to, in one call.
  public var sequences: Int
  /// Tokens of each one's context.
  public var tokens: Int
  /// Of these, tokens in compressed pages.
  public var compressedTokens: Int
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
  /// Median time of one attention step of one layer, in microseconds.
  public var medianMicroseconds: Double
  /// The shortest time.
  public var minMicroseconds: Double
  /// Steps that were timed.
  public var runs: Int
  /// Bytes of the pages that a step reads: compressed pages, tail and sinks of one layer.
  public var pageBytes: Int
  /// `pageBytes` over the median time.
  public var bytesPerSecond: Double
  /// Plain reading of memory with as many threads, measured between the steps: the median.
  public var machineReadBytesPerSecond: Double
  /// `bytesPerSecond` over `machineReadBytesPerSecond`: 1 where a step takes as long as reading its pages.
  public var shareOfReadBandwidth: Double
  /// Bits per value of the layer's compressed pages.
  public var bitsPerValue: Double
  /// Norm of the difference to attention in double precision over the decoded pages, over the norm
  /// of the latter.
  public var relativeError: Double
  /// Tokens of the context that the error was measured on.
  public var relativeErrorTokens: Int

  private enum CodingKeys: String, CodingKey {
    case policy, sequences, tokens
    case compressedTokens = "compressed_tokens"
    case queryHeads = "query_heads"
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case threads, isa
    case medianMicroseconds = "median_us"
    case minMicroseconds = "min_us"
    case runs
    case pageBytes = "page_bytes"
    case bytesPerSecond = "bytes_per_second"
    case machineReadBytesPerSecond = "machine_read_bytes_per_second"
    case shareOfReadBandwidth = "share_of_read_bandwidth"
    case bitsPerValue = "bits_per_value"
    case relativeError = "relative_error"
    case relativeErrorTokens = "relative_error_tokens"
  }
}

/// Times one attention step of one layer over a full cache whose pages come from memory, not from
/// the processor's caches.
///
/// Between two steps a buffer of 512 MiB is read, so that no page of the step before is left in a
/// cache. These reads also give the machine's bandwidth under the conditions of the steps. The
/// layer is the middle one, which a policy's rules for the first and the last
/// layers leave alone.
public struct DecodeBenchmark: Sendable {
  /// The model's shape; one of its layers is filled.
  public var shape: ModelShape
  /// Threads of the cache and of plain reading.
  public var threads: Int
  /// Sequences that a step attends to, in one call.
  public var sequences = 1
  /// Steps to time; `nil` times at least 15, and more where they are short.
  public var runs: Int?
  /// Bytes that are read between two steps.
  var readByteCount = ReadBuffer.standardByteCount

  /// Creates a benchmark of a shape.
  public init(shape: ModelShape, threads: Int) {
    self.shape = shape
    self.threads = threads
  }

  /// Measures every policy at every context.
  ///
  /// - Parameters:
  ///   - policies: What is compared.
  ///   - contexts: Tokens.
  ///   - progress: Told after every chunk that is filled.
  /// - Returns: One row for each policy and context, contexts first.
  /// - Throws: `KVError` or ``EvaluationError``.
  public func run(
    policies: [Policy],
    contexts: [Int],
    progress: ProgressHandler = { _ in }
  ) throws -> [DecodeRow] {
    for context in contexts { try check("context", context, in: 1...ModelShape.tokenLimit) }
    try check("sequences", sequences, in: 1...4_096)
    if let runs { try check("runs", runs, in: 1...1_000_000) }
    let caches = try BenchmarkCaches.make(policies, shape: shape, threads: threads)
    let chunks = try RandomChunks(count: 8, tokens: 512, shape: shape, seed: 11)
    let buffer = try ReadBuffer(byteCount: readByteCount)
    var rows: [DecodeRow] = []
    for context in contexts {
      let candidates = try caches.map {
        try Candidate(cache: $0, sequences: filled($0, context, chunks: chunks, progress: progress))
      }
      let times = try measure(candidates, buffer: buffer)
      for (candidate, times) in zip(candidates, times) {
        rows.append(try row(candidate, context, times, chunks: chunks))
      }
    }
    return rows
  }

  private struct Candidate {
    let cache: KVCache
    let sequences: [KVSequence]

    func attend(_ queries: [Float], layer: Int, into output: inout [Float]) throws(KVError) {
      var target = output.mutableSpan
      if sequences.count == 1 {
        try sequences[0].attend(queries: queries.span, layer: layer, into: &target)
      } else {
        try cache.attend(sequences, queries: queries.span, layer: layer, into: &target)
      }
    }
  }

  private var layer: Int { shape.layers / 2 }

  /// The last token comes by itself, as in decoding, so that all pages that are due are sealed.
  private func filled(
    _ cache: KVCache,
    _ context: Int,
    chunks: RandomChunks,
    progress: ProgressHandler
  ) throws -> [KVSequence] {
    let phase = "\(cache.plan.policy.label), \(context) tokens"
    return try (0..<sequences).map { index in
      let sequence = cache.makeSequence()
      try chunks.fill(sequence, layers: layer..<layer + 1, context: context - 1) { done in
        let before = index * context
        progress(
          WorkProgress(phase: phase, completed: before + done, total: sequences * context)
        )
      }
      try chunks.append(0, rows: 0..<1, to: sequence, layer: layer)
      return sequence
    }
  }

  private func row(
    _ candidate: Candidate,
    _ context: Int,
    _ times: Times,
    chunks: RandomChunks
  ) throws -> DecodeRow {
    let (error, errorTokens) = try relativeError(candidate.cache, context, chunks: chunks)
    let statistics = candidate.sequences.map(\.statistics)
    let pageBytes = statistics.reduce(0) { $0 + $1.totalBytes }
    let middle = median(times.steps)
    let bytesPerSecond = Double(pageBytes) / (middle * 1e-6)
    let machine = median(times.bandwidths)
    return DecodeRow(
      policy: candidate.cache.plan.policy.label,
      sequences: sequences,
      tokens: context,
      compressedTokens: statistics[0].compressedTokens,
      queryHeads: shape.queryHeads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      threads: threads,
      isa: KVCache.instructionSet,
      medianMicroseconds: middle,
      minMicroseconds: times.steps.min() ?? middle,
      runs: times.steps.count,
      pageBytes: pageBytes,
      bytesPerSecond: bytesPerSecond,
      machineReadBytesPerSecond: machine,
      shareOfReadBandwidth: bytesPerSecond / machine,
      bitsPerValue: pageBits(candidate.cache.plan),
      relativeError: error,
      relativeErrorTokens: errorTokens
    )
  }

  private func pageBits(_ plan: Plan) -> Double {
    let values = plan.policy.pageTokens * shape.kvHeads * shape.headDim * 2
    return Double(plan.layers[layer].pageLayout.byteCount * 8) / Double(values)
  }
}

// MARK: - Time

extension DecodeBenchmark {
  fileprivate struct Times {
    /// Microseconds of each step.
    var steps: [Double] = []
    /// Bytes per second of each reading between them.
    var bandwidths: [Double] = []
  }

  private static let warmUps = 2
  private static let leastRuns = 15
  private static let mostRuns = 40
  private static let enoughMicroseconds = 500_000.0

  /// Takes the policies in turn, round after round, so that a machine that slows down does so for all of them.
  private func measure(
    _ candidates: [Candidate],
    buffer: ReadBuffer
  ) throws(KVError) -> [Times] {
    var random = RandomRows(seed: 13)
    let queries = random.normal(sequences * shape.queryHeads * shape.headDim)
    var output = [Float](repeating: 0, count: queries.count)
    var times = candidates.map { _ in Times() }
    for round in 0... {
      for (index, candidate) in candidates.enumerated() {
        let bandwidth = buffer.read(threads: threads)
        let start = ContinuousClock.now
        try candidate.attend(queries, layer: layer, into: &output)
        let time = (ContinuousClock.now - start) / .microseconds(1)
        guard round >= Self.warmUps else { continue }
        times[index].steps.append(time)
        times[index].bandwidths.append(bandwidth)
      }
      if round >= Self.warmUps, times.allSatisfy({ isEnough($0.steps) }) { break }
    }
    return times
  }

  private func isEnough(_ steps: [Double]) -> Bool {
    if let runs { return steps.count >= runs }
    guard steps.count >= Self.leastRuns else { return false }
    return steps.count >= Self.mostRuns || steps.reduce(0, +) >= Self.enoughMicroseconds
  }
}

// MARK: - Error

extension DecodeBenchmark {
  private func relativeError(
    _ cache: KVCache,
    _ context: Int,
    chunks: RandomChunks
  ) throws(KVError) -> (error: Double, tokens: Int) {
    let tokens = min(context, AttentionError.mostTokens(of: cache.shape))
    let sequence = cache.makeSequence()
    try chunks.fill(sequence, layers: layer..<layer + 1, context: tokens)
    var random = RandomRows(seed: 17)
    let queries = random.normal(shape.queryHeads * shape.headDim)
    var output = [Float](repeating: 0, count: queries.count)
    var target = output.mutableSpan
    try sequence.attend(queries: queries.span, layer: layer, into: &target)
    let error = try AttentionError.relative(
      output,
      queries: queries,
      rows: [0],
      in: sequence,
      layer: layer
    )
    return (error, tokens)
  }
}
