import NibbleGenerate
public import NibbleKV

/// Codecs on a model: what each costs, what it leaves of keys, values and attention, and what that does to predictions.
///
/// Errors of rows, attention and softmax weights are taken layer by layer behind exact layers; logits and recall are those
/// of a model whose whole cache is compressed.
public struct CodecModelComparison {
  /// The policies' common ground: the model, the text and the questions.
  public var policies: PolicyComparison
  /// Tokens of the cache whose decoding is timed; `nil` leaves all timings out.
  public var context: Int? = 16_384

  /// Creates a comparison.
  public init(policies: PolicyComparison) {
    self.policies = policies
  }

  /// Runs everything.
  ///
  /// - Parameters:
  ///   - codecs: At least one.
  ///   - baselines: Indices of codecs that ratios of KL divergences refer to, ascending: each row's to the nearest at or
  ///     before it, or else to the first. One beyond the codecs traps.
  ///   - progress: Told after every step.
  /// - Returns: One row a codec, in the order given.
  /// - Throws: `KVError`, ``EvaluationError``, or an error of the model.
  public func run(
    codecs: [Policy],
    baselines: [Int] = [],
    progress: ProgressHandler = { _ in }
  ) throws -> [CodecModelRow] {
    let quality = try policies.run(policies: codecs, baselines: baselines, progress: progress)
    let tallies = try attention(codecs, progress: progress)
    let speeds = try timings(codecs, progress: progress)
    return codecs.indices.map { index in
      CodecModelRow(
        quality: quality[index],
        tally: tallies[index],
        encode: speeds?[index].encodeNanosecondsPerValue,
        decode: speeds?[index].decodeBytesPerSecond
      )
    }
  }

  /// What each codec does to attention behind exact layers.
  func attention(_ codecs: [Policy], progress: ProgressHandler) throws -> [AttentionTally] {
    let model = policies.model
    let exact = try KVCache(model: model.shape, policy: .exact, threads: policies.threads)
    let caches = try codecs.map {
      try KVCache(
        model: model.shape,
        policy: $0,
        threads: policies.threads,
        catalogue: policies.catalogue
      )
    }
    let step = codecs.map(\.pageTokens).min() ?? 64
    let total = policies.documents.reduce(0) { $0 + $1.count }
    var tallies = codecs.map { _ in AttentionTally(shape: model.shape) }
    var done = 0
    for document in policies.documents {
      let probe = AttentionProbe(exact: exact, others: caches)
      for first in stride(from: 0, to: document.count, by: step) {
        let tokens = Array(document[first..<min(first + step, document.count)])
        _ = try model.forward(tokens: tokens, store: probe, logits: .none)
        done += tokens.count
        progress(WorkProgress(phase: "attention", completed: done, total: total))
      }
      for (index, tally) in try probe.finish().enumerated() { tallies[index].add(tally) }
    }
    return tallies
  }

  private func timings(_ codecs: [Policy], progress: ProgressHandler) throws -> [CodecRow]? {
    guard let context else { return nil }
    var comparison = CodecComparison()
    comparison.rows = 1_024
    comparison.headDim = policies.model.shape.headDim
    comparison.context = context
    return try comparison.run(codecs: codecs, progress: progress)
  }
}

/// A row of `compare --codecs` on a model; the names of its JSON fields are fixed by Specs/cli.md.
public struct CodecModelRow: Encodable, Sendable {
  /// The codec as it was given.
  public var codec: String
  /// Bits per value of the compressed pages, with all side information and padding.
  public var bitsPerValue: Double
  /// The same over everything that the documents hold: pages, tail and sinks.
  public var totalBitsPerValue: Double
  /// Tokens in compressed pages at the end of their document.
  public var compressedTokens: Int
  /// Positions whose logits were compared.
  public var positions: Int
  /// Σ (row − decoded)² / Σ row² of compressed keys.
  @NullableNumber public var relativeMSEOfKeys: Double?
  /// The same of compressed values.
  @NullableNumber public var relativeMSEOfValues: Double?
  /// ‖attention − exact‖ / ‖exact‖ over all layers, behind exact layers.
  @NullableNumber public var attentionError: Double?
  /// KL(exact ‖ compressed) of softmax weights, the mean in nats.
  @NullableNumber public var softmaxKL: Double?
  /// KL(exact ‖ compressed) of predictions, the mean in nats.
  @NullableNumber public var logitKL: Double?
  /// The lower end of its 95 % interval.
  @NullableNumber public var logitKLLow: Double?
  /// The upper end of its 95 % interval.
  @NullableNumber public var logitKLHigh: Double?
  /// The median over positions.
  @NullableNumber public var logitKLMedian: Double?
  /// The 99th percentile over positions.
  @NullableNumber public var logitKLP99: Double?
  /// ``logitKL`` over that of the baseline.
  @NullableNumber public var klRatio: Double?
  /// The lower end of its 95 % interval.
  @NullableNumber public var klRatioLow: Double?
  /// The upper end of its 95 % interval.
  @NullableNumber public var klRatioHigh: Double?
  /// Share of the positions with the same most probable token.
  @NullableNumber public var sameTop1: Double?
  /// Share of the answers' tokens recalled.
  @NullableNumber public var recall: Double?
  /// Time to encode one normal value, one thread.
  @NullableNumber public var encodeNanosecondsPerValue: Double?
  /// Bytes of pages that one thread attends to in a second.
  @NullableNumber public var decodeBytesPerSecond: Double?

  private enum CodingKeys: String, CodingKey {
    case codec
    case bitsPerValue = "bits_per_value"
    case totalBitsPerValue = "total_bits_per_value"
    case compressedTokens = "compressed_tokens"
    case positions
    case relativeMSEOfKeys = "relative_mse_k"
    case relativeMSEOfValues = "relative_mse_v"
    case attentionError = "attention_error"
    case softmaxKL = "softmax_kl"
    case logitKL = "logit_kl"
    case logitKLLow = "logit_kl_low"
    case logitKLHigh = "logit_kl_high"
    case logitKLMedian = "logit_kl_median"
    case logitKLP99 = "logit_kl_p99"
    case klRatio = "kl_ratio"
    case klRatioLow = "kl_ratio_low"
    case klRatioHigh = "kl_ratio_high"
    case sameTop1 = "same_top_1"
    case recall
    case encodeNanosecondsPerValue = "encode_ns_per_value"
    case decodeBytesPerSecond = "decode_bytes_per_second"
  }

  init(quality: QualityRow, tally: AttentionTally, encode: Double?, decode: Double?) {
    codec = quality.policy
    bitsPerValue = quality.bitsPerValue
    totalBitsPerValue = 16 * Double(quality.totalBytes) / Double(max(1, quality.exactBytes))
    compressedTokens = quality.compressedTokens
    positions = quality.positions
    relativeMSEOfKeys = tally.keys.relative
    relativeMSEOfValues = tally.values.relative
    attentionError = tally.attentionError
    softmaxKL = tally.weightRows > 0 ? tally.divergence / Double(tally.weightRows) : nil
    logitKL = quality.klMean
    logitKLLow = quality.klMeanLow
    logitKLHigh = quality.klMeanHigh
    logitKLMedian = quality.klMedian
    logitKLP99 = quality.klP99
    klRatio = quality.klRatio
    klRatioLow = quality.klRatioLow
    klRatioHigh = quality.klRatioHigh
    sameTop1 = quality.sameTop1
    recall = quality.recall
    encodeNanosecondsPerValue = encode
    decodeBytesPerSecond = decode
  }
}
