/// A row of `eval` and `compare`; the names of its JSON fields are fixed by Specs/cli.md.
public struct QualityRow: Encodable, Sendable {
  /// The model's name.
  public var model: String
  /// The policy as it was given.
  public var policy: String
  /// Documents that were read.
  public var documents: Int
  /// Tokens that were read.
  public var tokens: Int
  /// Of these, tokens in compressed pages at the end of their document.
  public var compressedTokens: Int
  /// Bits per value of the compressed pages.
  public var bitsPerValue: Double
  /// Bytes held at the end of each document, summed.
  public var totalBytes: Int
  /// Bytes of float16 rows for the same tokens.
  public var exactBytes: Int
  /// Positions that were compared.
  public var positions: Int
  /// KL(exact ‖ compressed) in nats: the mean.
  @NullableNumber public var klMean: Double?
  /// The lower end of the 95 % interval of the mean.
  @NullableNumber public var klMeanLow: Double?
  /// The upper end of that interval.
  @NullableNumber public var klMeanHigh: Double?
  /// The median.
  @NullableNumber public var klMedian: Double?
  /// The 99th percentile.
  @NullableNumber public var klP99: Double?
  /// The mean KL over that of the baseline.
  @NullableNumber public var klRatio: Double?
  /// The lower end of the 95 % interval of that ratio.
  @NullableNumber public var klRatioLow: Double?
  /// The upper end of that interval.
  @NullableNumber public var klRatioHigh: Double?
  /// Share of the positions with the same most probable token.
  @NullableNumber public var sameTop1: Double?
  /// Perplexity with the policy.
  @NullableNumber public var perplexity: Double?
  /// Perplexity with the exact cache, over the same positions.
  @NullableNumber public var perplexityExact: Double?
  /// Share of the sealed pages that attention left out.
  @NullableNumber public var skippedPages: Double?
  /// Of the pages that attention read, the share whose values it left out.
  @NullableNumber public var skippedValues: Double?
  /// Questions that were asked.
  public var questions = 0
  /// Share of the answers' tokens recalled with the policy.
  @NullableNumber public var recall: Double?
  /// Share of the answers' tokens recalled with the exact cache.
  @NullableNumber public var recallExact: Double?
  /// Share of the answers recalled to the last token with the policy.
  @NullableNumber public var answersRecalled: Double?
  /// Share of the answers recalled to the last token with the exact cache.
  @NullableNumber public var answersRecalledExact: Double?

  private enum CodingKeys: String, CodingKey {
    case model, policy, documents, tokens
    case compressedTokens = "compressed_tokens"
    case bitsPerValue = "bits_per_value"
    case totalBytes = "total_bytes"
    case exactBytes = "exact_bytes"
    case positions
    case klMean = "kl_mean"
    case klMeanLow = "kl_mean_low"
    case klMeanHigh = "kl_mean_high"
    case klMedian = "kl_median"
    case klP99 = "kl_p99"
    case klRatio = "kl_ratio"
    case klRatioLow = "kl_ratio_low"
    case klRatioHigh = "kl_ratio_high"
    case sameTop1 = "same_top_1"
    case perplexity
    case perplexityExact = "perplexity_exact"
    case skippedPages = "skipped_pages"
    case skippedValues = "skipped_values"
    case questions, recall
    case recallExact = "recall_exact"
    case answersRecalled = "answers_recalled"
    case answersRecalledExact = "answers_recalled_exact"
  }

  /// Makes a row without recall.
  public init(model: String, quality: QualityResult) {
    self.model = model
    policy = quality.policy
    documents = quality.documents
    tokens = quality.tokens
    compressedTokens = quality.compressedTokens
    bitsPerValue = quality.bitsPerValue
    totalBytes = quality.totalBytes
    exactBytes = quality.exactBytes
    positions = quality.positions
    klMean = quality.divergence?.mean
    klMeanLow = quality.divergence?.meanLow
    klMeanHigh = quality.divergence?.meanHigh
    klMedian = quality.divergence?.median
    klP99 = quality.divergence?.percentile99
    klRatio = quality.divergenceRatio?.ratio
    klRatioLow = quality.divergenceRatio?.low
    klRatioHigh = quality.divergenceRatio?.high
    sameTop1 = quality.sameTop1
    perplexity = quality.perplexity
    perplexityExact = quality.perplexityExact
    skippedPages = quality.skippedPages
    skippedValues = quality.skippedValues
  }
}
