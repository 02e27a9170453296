public import NibbleGenerate
public import NibbleKV
import NibbleLlama

/// What `generate` reports; the names of its JSON fields are fixed by Specs/cli.md.
public struct GenerationReport: Encodable, Hashable, Sendable {
  /// The model's name.
  public var model: String
  /// The policy as it was given.
  public var policy: String
  /// What was generated, without the prompt.
  public var text = ""
  /// Tokens of the prompt.
  public var promptTokens: Int
  /// Tokens that were generated.
  public var tokens = 0
  /// Generated tokens after the first, over the time that they took.
  @NullableNumber public var tokensPerSecond: Double?
  /// From the call to the first token, prompt included.
  public var timeToFirstTokenMicroseconds = 0.0
  /// Bytes that the sequence holds at the end: pages, tail and sinks.
  public var cacheBytes = 0
  /// Bytes of float16 rows for the same tokens.
  public var exactCacheBytes = 0
  /// Tokens in compressed pages at the end.
  public var compressedTokens = 0
  /// Bits per value of the compressed pages.
  public var bitsPerValue = 0.0
  /// What the cache holds at the end, by where it is.
  public var tiers = TierBytes()
  /// Why generation ended: `stop_token`, `stop_string` or `max_tokens`.
  public var finishReason = "max_tokens"

  private enum CodingKeys: String, CodingKey {
    case model, policy, text
    case promptTokens = "prompt_tokens"
    case tokens
    case tokensPerSecond = "tokens_per_second"
    case timeToFirstTokenMicroseconds = "time_to_first_token_us"
    case cacheBytes = "cache_bytes"
    case exactCacheBytes = "exact_cache_bytes"
    case compressedTokens = "compressed_tokens"
    case bitsPerValue = "bits_per_value"
    case tiers
    case finishReason = "finish_reason"
  }
}

/// Continues a prompt and measures what it took.
public struct GenerationRun: Sendable {
  /// The model and its tokenizer.
  public var host: HostModel
  /// What the cache does to the history.
  public var policy: Policy
  /// When to stop and how to choose.
  public var options: GenerationOptions
  /// Threads of the cache; `nil` takes one for each core.
  public var threads: Int?
  /// What the policy may refer to.
  public var catalogue: CodecCatalogue
  /// The most bytes that the cache may hold in memory.
  public var budget = ByteBudget.unlimited
  /// Where pages go that the budget has no room for.
  public var disk: DiskTier?

  /// Creates a run.
  public init(
    host: HostModel,
    policy: Policy,
    options: GenerationOptions = GenerationOptions(),
    threads: Int? = nil,
    catalogue: CodecCatalogue = .standard
  ) {
    self.host = host
    self.policy = policy
    self.options = options
    self.threads = threads
    self.catalogue = catalogue
  }

  /// Generates.
  ///
  /// - Parameters:
  ///   - prompt: The text to continue.
  ///   - deliver: Receives text as it becomes certain.
  /// - Returns: The whole text and the figures.
  /// - Throws: ``EvaluationError``, `GenerationError`, `KVError`, or an error of the model.
  public func run(
    prompt: String,
    deliver: (String) -> Void = { _ in }
  ) async throws -> GenerationReport {
    let tokenizer = try host.requireTokenizer()
    let promptTokens = try host.documentTokens(prompt)
    let cache = try KVCache(
      model: host.model.shape,
      policy: policy,
      budget: budget,
      disk: disk,
      threads: threads,
      catalogue: catalogue
    )
    // Not remembered for other prompts, since none come.
    let sequence = cache.makeSequence()
    var report = GenerationReport(
      model: host.model.name,
      policy: policy.label,
      promptTokens: promptTokens.count
    )
    let start = ContinuousClock.now
    var firstToken = start
    let stream = generate(
      model: host.model,
      tokenizer: tokenizer,
      promptTokens: promptTokens,
      store: sequence,
      options: options
    )
    for try await token in stream {
      if report.tokens == 0 { firstToken = .now }
      report.tokens += 1
      report.text += token.text
      deliver(token.text)
      if let reason = token.finishReason { report.finishReason = reason.word }
    }
    report.timeToFirstTokenMicroseconds = (firstToken - start) / .microseconds(1)
    let seconds = (ContinuousClock.now - firstToken) / .seconds(1)
    if report.tokens > 1, seconds > 0 {
      report.tokensPerSecond = Double(report.tokens - 1) / seconds
    }
    report.take(sequence)
    return report
  }
}

extension GenerationReport {
  /// Takes what the sequence holds at the end; the last token was never appended.
  fileprivate mutating func take(_ sequence: KVSequence) {
    let statistics = sequence.statistics
    cacheBytes = statistics.totalBytes
    exactCacheBytes = statistics.exactBytes
    compressedTokens = statistics.compressedTokens
    let planned = sequence.cache.plan.bitsPerValue
    bitsPerValue = statistics.bitsPerValue > 0 ? statistics.bitsPerValue : planned
    tiers = TierBytes(sequence.cache.statistics)
  }
}

extension FinishReason {
  fileprivate var word: String {
    switch self {
    case .stopToken: "stop_token"
    case .stopString: "stop_string"
    case .maximumTokens: "max_tokens"
    }
  }
}
