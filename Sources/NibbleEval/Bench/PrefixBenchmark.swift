public import NibbleGenerate
public import NibbleKV
import Synchronization

/// A row of `bench prefix`; the names of its JSON fields are fixed by Specs/cli.md.
public struct PrefixRow: Encodable, Hashable, Sendable {
  /// The model's name.
  public var model: String
  /// The policy as it was given.
  public var policy: String
  /// Tokens of the prompt.
  public var tokens: Int
  /// Tokens of one step of its prefill.
  public var chunk: Int
  /// Threads of the cache.
  public var threads: Int
  /// The instruction set that ran.
  public var isa: String
  /// Times that the prompt was taken cold, and again.
  public var runs: Int
  /// Median time to the first token in an empty cache, in microseconds.
  public var coldMedianMicroseconds: Double
  /// The shortest such time.
  public var coldMinMicroseconds: Double
  /// Median time to the first token of the same prompt again.
  public var warmMedianMicroseconds: Double
  /// The shortest such time.
  public var warmMinMicroseconds: Double
  /// The cold median over the warm one.
  public var ratio: Double
  /// Tokens that were not computed the second time.
  public var reusedTokens: Int
  /// Bytes of the pages that the cache remembers.
  public var prefixBytes: Int
  /// Whether all logits were the same bit for bit.
  public var sameLogits: Bool

  private enum CodingKeys: String, CodingKey {
    case model, policy, tokens, chunk, threads, isa, runs
    case coldMedianMicroseconds = "cold_median_us"
    case coldMinMicroseconds = "cold_min_us"
    case warmMedianMicroseconds = "warm_median_us"
    case warmMinMicroseconds = "warm_min_us"
    case ratio
    case reusedTokens = "reused_tokens"
    case prefixBytes = "prefix_bytes"
    case sameLogits = "same_logits"
  }
}

/// Times the first token of a prompt in an empty cache, and of the same prompt once more in that cache.
public struct PrefixBenchmark: Sendable {
  /// The model that computes the prompt.
  public var model: any DecoderModel
  /// Tokens of one step of the prefill.
  public var chunk = 512
  /// Threads of the cache.
  public var threads: Int
  /// Empty caches to take with each policy.
  public var runs = 3

  /// Creates a benchmark of chunks of 512 tokens and three runs.
  public init(model: any DecoderModel, threads: Int) {
    self.model = model
    self.threads = threads
  }

  /// Measures every policy with a prompt of random tokens.
  ///
  /// - Parameters:
  ///   - policies: What is compared.
  ///   - tokens: Tokens of the prompt, at least 2.
  ///   - progress: Told after every prompt.
  /// - Returns: One row for each policy.
  /// - Throws: `KVError`, `GenerationError`, ``EvaluationError``, or an error of the model.
  public func run(
    policies: [Policy],
    tokens: Int,
    progress: ProgressHandler = { _ in }
  ) async throws -> [PrefixRow] {
    try check("tokens", tokens, in: 2...ModelShape.tokenLimit)
    try check("runs", runs, in: 1...1_000)
    // Before anything is measured: a policy that does not fit must not be found out after minutes.
    _ = try BenchmarkCaches.make(policies, shape: model.shape, threads: threads)
    var random = SplitMix64(seed: 1)
    let prompt = (0..<tokens).map { _ in Int.random(in: 0..<model.vocabularySize, using: &random) }
    var results = policies.map { _ in [Result]() }
    for run in 1...runs {
      for (index, policy) in policies.enumerated() {
        results[index].append(try await measure(policy, prompt))
        let phase = "run \(run)"
        progress(WorkProgress(phase: phase, completed: index + 1, total: policies.count))
      }
    }
    return policies.indices.map { row(policies[$0], tokens, results[$0]) }
  }

  /// A prompt that was taken twice.
  private struct Result {
    var cold: FirstToken
    var warm: FirstToken
    var prefixBytes: Int
  }

  private struct FirstToken {
    var microseconds: Double
    var reusedTokens: Int
    var logits: [Float]
  }

  private func measure(_ policy: Policy, _ prompt: [Int]) async throws -> Result {
    let caches = try BenchmarkCaches.make([policy], shape: model.shape, threads: threads)
    let cold = try await firstToken(prompt, cache: caches[0])
    let warm = try await firstToken(prompt, cache: caches[0])
    let bytes = caches[0].statistics.prefixes.bytes
    return Result(cold: cold, warm: warm, prefixBytes: bytes)
  }

  private func firstToken(_ prompt: [Int], cache: KVCache) async throws -> FirstToken {
    let recorder = LogitRecorder(model)
    let start = ContinuousClock.now
    let stream = generate(
      model: recorder,
      promptTokens: prompt,
      cache: cache,
      options: GenerationOptions(maximumTokens: 1, prefillChunk: chunk)
    )
    var iterator = stream.makeAsyncIterator()
    let token = try await iterator.next()
    return FirstToken(
      microseconds: (ContinuousClock.now - start) / .microseconds(1),
      reusedTokens: token?.statistics.reusedTokens ?? 0,
      logits: recorder.last
    )
  }

  private func row(_ policy: Policy, _ tokens: Int, _ results: [Result]) -> PrefixRow {
    let cold = results.map(\.cold.microseconds).sorted()
    let warm = results.map(\.warm.microseconds).sorted()
    let first = results[0]
    return PrefixRow(
      model: model.name,
      policy: policy.label,
      tokens: tokens,
      chunk: chunk,
      threads: threads,
      isa: KVCache.instructionSet,
      runs: results.count,
      coldMedianMicroseconds: median(cold),
      coldMinMicroseconds: cold[0],
      warmMedianMicroseconds: median(warm),
      warmMinMicroseconds: warm[0],
      ratio: median(cold) / median(warm),
      reusedTokens: first.warm.reusedTokens,
      prefixBytes: first.prefixBytes,
      sameLogits: results.allSatisfy {
        $0.cold.logits == first.cold.logits && $0.warm.logits == first.cold.logits
      }
    )
  }
}

/// A model that keeps the logits it computed last.
private final class LogitRecorder: DecoderModel {
  private let model: any DecoderModel
  private let logits = Mutex<[Float]>([])

  init(_ model: any DecoderModel) { self.model = model }

  var shape: ModelShape { model.shape }
  var vocabularySize: Int { model.vocabularySize }
  var name: String { model.name }
  var last: [Float] { logits.withLock { $0 } }

  func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits request: LogitsRequest
  ) throws -> [Float] {
    let result = try model.forward(tokens: tokens, store: store, logits: request)
    if request != .none { logits.withLock { $0 = result } }
    return result
  }
}
