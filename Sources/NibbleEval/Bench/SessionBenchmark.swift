import Foundation
public import NibbleKV

/// A row of `bench session`; the names of its JSON fields are fixed by Specs/cli.md.
public struct SessionRow: Encodable, Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Tokens of the sequence.
  public var tokens: Int
  /// Attention layers.
  public var layers: Int
  /// KV heads.
  public var kvHeads: Int
  /// Channels of a head.
  public var headDim: Int
  /// Threads of the cache.
  public var threads: Int
  /// Times that all was done.
  public var runs: Int
  /// Bytes of the file.
  public var bytes: Int
  /// Median time of a save to a new file, in microseconds.
  public var saveMedianMicroseconds: Double
  /// Median time to write as many bytes to a new file, and to wait until they are safe.
  public var writeMedianMicroseconds: Double
  /// Speed of the save over that of plain writing.
  public var ofWriteSpeed: Double
  /// Median time of another save after a page of new tokens.
  public var appendMedianMicroseconds: Double
  /// Median time to restore the sequence.
  public var restoreMedianMicroseconds: Double
  /// Median time from the restoring call to the output of the first layer's attention.
  public var firstAttentionMedianMicroseconds: Double
  /// Whether attention over the restored sequence gave the same output bit for bit.
  public var sameOutput: Bool

  private enum CodingKeys: String, CodingKey {
    case policy, tokens, layers
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case threads, runs, bytes
    case saveMedianMicroseconds = "save_median_us"
    case writeMedianMicroseconds = "write_median_us"
    case ofWriteSpeed = "of_write_speed"
    case appendMedianMicroseconds = "append_median_us"
    case restoreMedianMicroseconds = "restore_median_us"
    case firstAttentionMedianMicroseconds = "first_attention_median_us"
    case sameOutput = "same_output"
  }
}

/// Times saving a sequence and restoring it, beside plain writing of as many bytes to the same folder.
public struct SessionBenchmark: Sendable {
  /// The model.
  public var shape: ModelShape
  /// Threads of the cache.
  public var threads: Int
  /// The folder that files are written to.
  public var folder: String
  /// Times to do all.
  public var runs = 3

  /// Creates a benchmark of three runs.
  public init(shape: ModelShape, threads: Int, folder: String) {
    self.shape = shape
    self.threads = threads
    self.folder = folder
  }

  /// Measures one policy.
  ///
  /// - Parameters:
  ///   - policy: What is saved.
  ///   - context: Tokens.
  ///   - progress: Told while the cache is filled.
  /// - Returns: The medians.
  /// - Throws: `KVError`, ``EvaluationError``, or an error of the file system.
  public func run(
    policy: Policy,
    context: Int,
    progress: ProgressHandler = { _ in }
  ) throws -> SessionRow {
    try check("context", context, in: 1...ModelShape.tokenLimit)
    try check("runs", runs, in: 1...1_000)
    let cache = try BenchmarkCaches.make([policy], shape: shape, threads: threads)[0]
    let sequence = cache.makeSequence()
    let chunks = try RandomChunks(count: 2, tokens: 512, shape: shape, seed: 19)
    try chunks.fill(sequence, layers: 0..<shape.layers, context: context) { done in
      progress(WorkProgress(phase: policy.label, completed: done, total: context))
    }
    let paths = Paths(folder: folder)
    defer { paths.remove() }
    let times = try (0..<runs).map { _ in try measure(sequence, cache, paths) }
    return row(policy, context, times, bytes: try paths.byteCount())
  }

  private struct Times {
    var save, write, append, restore, attention: Double
    var isSame: Bool
  }

  private struct Paths {
    let session: String
    let plain: String

    init(folder: String) {
      let name = "\(folder)/nibble-bench-\(UUID().uuidString)"
      session = name + ".session"
      plain = name + ".plain"
    }

    func byteCount() throws -> Int {
      try FileManager.default.attributesOfItem(atPath: session)[.size] as? Int ?? 0
    }

    func remove() {
      try? FileManager.default.removeItem(atPath: session)
      try? FileManager.default.removeItem(atPath: plain)
    }
  }

  private func measure(
    _ sequence: KVSequence,
    _ cache: KVCache,
    _ paths: Paths
  ) throws -> Times {
    paths.remove()
    // A fork has not been saved anywhere, so all its pages are written.
    let saved = sequence.fork()
    let save = try time { try saved.save(to: paths.session) }
    let byteCount = try paths.byteCount()
    let write = try time { try writePlainly(byteCount, to: paths.plain) }

    var random = RandomRows(seed: 23)
    let queries = random.normal(shape.queryHeads * shape.headDim)
    let expected = try attended(saved, queries)
    var restored: KVSequence?
    let restore = try time { restored = try cache.restoreSequence(from: paths.session) }
    var output: [Float] = []
    let attention = try time {
      if let restored { output = try attended(restored, queries) }
    }
    let more = try RandomChunks(
      count: 1,
      tokens: cache.plan.policy.pageTokens,
      shape: shape,
      seed: 29
    )
    try more.fill(saved, layers: 0..<shape.layers, context: cache.plan.policy.pageTokens)
    let append = try time { try saved.save(to: paths.session) }
    return Times(
      save: save,
      write: write,
      append: append,
      restore: restore,
      attention: restore + attention,
      isSame: output == expected
    )
  }

  private func attended(_ sequence: KVSequence, _ queries: [Float]) throws(KVError) -> [Float] {
    var output = [Float](repeating: 0, count: queries.count)
    var target = output.mutableSpan
    try sequence.attend(queries: queries.span, layer: 0, into: &target)
    return output
  }

  private func writePlainly(_ byteCount: Int, to path: String) throws {
    var generator = SystemRandomNumberGenerator()
    let words = (0..<(1 << 19)).map { _ in generator.next() }
    let block = words.withUnsafeBytes { Data($0) }
    try Data().write(to: URL(fileURLWithPath: path))
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    defer { try? file.close() }
    var left = byteCount
    while left > 0 {
      try file.write(contentsOf: block.prefix(left))
      left -= min(left, block.count)
    }
    try file.synchronize()
  }

  /// Microseconds that `body` takes.
  private func time(_ body: () throws -> Void) rethrows -> Double {
    let start = ContinuousClock.now
    try body()
    return (ContinuousClock.now - start) / .microseconds(1)
  }

  private func row(_ policy: Policy, _ context: Int, _ times: [Times], bytes: Int) -> SessionRow {
    let save = median(times.map(\.save))
    let write = median(times.map(\.write))
    return SessionRow(
      policy: policy.label,
      tokens: context,
      layers: shape.layers,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      threads: threads,
      runs: runs,
      bytes: bytes,
      saveMedianMicroseconds: save,
      writeMedianMicroseconds: write,
      ofWriteSpeed: write / save,
      appendMedianMicroseconds: median(times.map(\.append)),
      restoreMedianMicroseconds: median(times.map(\.restore)),
      firstAttentionMedianMicroseconds: median(times.map(\.attention)),
      sameOutput: times.allSatisfy(\.isSame)
    )
  }
}
