public import NibbleKV

/// What `bench memory` reports; the names of its JSON fields are fixed by Specs/cli.md.
public struct MemoryReport: Encodable, Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Tokens of each sequence.
  public var tokens: Int
  /// Sequences that were filled.
  public var sequences: Int
  /// Attention layers.
  public var layers: Int
  /// KV heads.
  public var kvHeads: Int
  /// Channels of a head.
  public var headDim: Int
  /// Tokens of one append.
  public var chunk: Int
  /// Threads of the cache.
  public var threads: Int
  /// What the plan says for this context and chunk.
  public var plannedBytes: Int
  /// Peak resident memory of the process less that before the cache was made.
  public var residentGrowthBytes: Int
  /// Float16 rows of the same tokens.
  public var float16Bytes: Int
  /// Tokens in compressed pages, of all sequences.
  public var compressedTokens: Int
  /// Bits per value of the compressed pages.
  public var bitsPerValue: Double
  /// What the cache holds then, by where it is.
  public var tiers: TierBytes
  /// Forks of the sequence that were made then.
  public var forks: Int
  /// Growth of the process by them.
  public var forkGrowthBytes: Int

  private enum CodingKeys: String, CodingKey {
    case policy, tokens, sequences, layers
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case chunk, threads
    case plannedBytes = "planned_bytes"
    case residentGrowthBytes = "resident_growth_bytes"
    case float16Bytes = "float16_bytes"
    case compressedTokens = "compressed_tokens"
    case bitsPerValue = "bits_per_value"
    case tiers
    case forks
    case forkGrowthBytes = "fork_growth_bytes"
  }
}

/// Fills a cache as a chunked prefill would, and measures how much the process grew at its peak.
///
/// The rows that are appended lie in buffers that were filled before the measurement began. Run it
/// in a process that has done little else: memory that was freed before can be used again without
/// growth.
public struct MemoryBenchmark: Sendable {
  /// The model.
  public var shape: ModelShape
  /// What to compress, and how hard.
  public var policy: Policy
  /// Tokens of one append.
  public var chunk: Int
  /// Threads of the cache.
  public var threads: Int
  /// What the policy may refer to.
  public var catalogue = CodecCatalogue.standard
  /// Sequences to fill, one after the other, 1 to `Plan.sequenceLimit`.
  public var sequences = 1
  /// Forks of a full sequence to make, 0 to 1,000,000.
  public var forks = 0
  /// The most bytes that the cache may hold in memory.
  public var budget = ByteBudget.unlimited
  /// Where pages go that the budget has no room for.
  public var disk: DiskTier?

  /// Creates a benchmark.
  public init(shape: ModelShape, policy: Policy, chunk: Int = 512, threads: Int) {
    self.shape = shape
    self.policy = policy
    self.chunk = chunk
    self.threads = threads
  }

  /// Fills the cache and decodes one token.
  ///
  /// - Parameters:
  ///   - context: Tokens.
  ///   - progress: Told after every chunk.
  /// - Returns: What was planned and what was measured.
  /// - Throws: `KVError` or ``EvaluationError``.
  public func run(
    context: Int,
    progress: ProgressHandler = { _ in }
  ) throws -> MemoryReport {
    try check("context", context, in: 1...ModelShape.tokenLimit)
    try check("chunk", chunk, in: 1...65_536)
    try check("sequences", sequences, in: 1...Plan.sequenceLimit)
    try check("forks", forks, in: 0...1_000_000)
    do { try shape.validate() } catch { throw KVError.policy(error) }
    let chunks = try RandomChunks(count: 2, tokens: chunk, shape: shape, seed: 19)
    var random = RandomRows(seed: 23)
    let queries = random.normal(shape.queryHeads * shape.headDim)
    var output = [Float](repeating: 0, count: queries.count)

    // Where the peak can't be reset it counts from the start of the process, of which little has happened yet.
    ResidentMemory.resetPeak()
    let before = try ResidentMemory.current()
    let cache = try KVCache(
      model: shape,
      policy: policy,
      budget: budget,
      disk: disk,
      threads: threads,
      catalogue: catalogue
    )
    let filled = (0..<sequences).map { _ in cache.makeSequence() }
    for (number, sequence) in filled.enumerated() {
      try chunks.fill(sequence, layers: 0..<shape.layers, context: context) { done in
        let completed = number * context + done
        progress(
          WorkProgress(phase: policy.label, completed: completed, total: sequences * context)
        )
      }
      for layer in 0..<shape.layers {
        var target = output.mutableSpan
        var options = AttentionOptions.standard
        options.window = shape.slidingWindows[layer]
        try sequence.attend(queries: queries.span, layer: layer, options: options, into: &target)
      }
    }
    let growth = max(0, try ResidentMemory.peak() - before)
    let full = try ResidentMemory.current()
    let tiers = TierBytes(cache.statistics)
    let branches = (0..<forks).map { _ in filled[0].fork() }
    let forkGrowth = withExtendedLifetime(branches) { try? ResidentMemory.current() - full }

    let estimate = try cache.plan.estimate(
      context: context,
      chunk: chunk,
      threads: threads,
      sequences: sequences
    )
    return MemoryReport(
      policy: policy.label,
      tokens: context,
      sequences: sequences,
      layers: shape.layers,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      chunk: chunk,
      threads: threads,
      plannedBytes: estimate.total,
      residentGrowthBytes: growth,
      float16Bytes: estimate.float16Bytes,
      compressedTokens: filled.reduce(0) { $0 + $1.statistics.compressedTokens },
      bitsPerValue: cache.plan.bitsPerValue,
      tiers: tiers,
      forks: forks,
      forkGrowthBytes: max(0, forkGrowth ?? 0)
    )
  }
}
