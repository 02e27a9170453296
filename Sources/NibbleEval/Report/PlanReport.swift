import NibbleKV

/// A row of `plan`; the names of its JSON fields are fixed by Specs/cli.md.
public struct PlanRow: Encodable, Hashable, Sendable {
  /// Bytes by what they are spent on.
  public struct Parts: Encodable, Hashable, Sendable {
    /// Codes of sealed pages, with padding.
    public var codes: Int
    /// Tables of sealed pages.
    public var tables: Int
    /// Scales and means of sealed pages.
    public var scales: Int
    /// Exact pages after the sinks.
    public var tail: Int
    /// Exact pages of the first tokens.
    public var sinks: Int
    /// Working memory.
    public var scratch: Int
  }

  /// The policy as it was given.
  public var policy: String
  /// Tokens of each sequence.
  public var context: Int
  /// Sequences.
  public var sequences: Int
  /// All bytes at the peak: the parts, and what slabs round up.
  public var bytes: Int
  /// Bytes for each token of the sequences.
  public var bytesPerToken: Double
  /// Bits per value of the compressed pages.
  public var bitsPerValue: Double
  /// Tokens in compressed pages.
  public var compressedTokens: Int
  /// Bytes of float16 rows for the same tokens.
  public var float16Bytes: Int
  /// Bytes by purpose.
  public var parts: Parts
  /// What slabs hold beyond their pages.
  public var slack: Int
  /// The most sequences of this context that fit the memory that was given, up to `Plan.sequenceLimit`; `nil` if none was.
  public var mostSequences: Int?

  private enum CodingKeys: String, CodingKey {
    case policy, context, sequences, bytes
    case bytesPerToken = "bytes_per_token"
    case bitsPerValue = "bits_per_value"
    case compressedTokens = "compressed_tokens"
    case float16Bytes = "float16_bytes"
    case parts, slack
    case mostSequences = "most_sequences"
  }

  init(policy: Policy, estimate: MemoryEstimate) {
    self.policy = policy.label
    context = estimate.context
    sequences = estimate.sequences
    bytes = estimate.total
    bytesPerToken = estimate.bytesPerToken
    bitsPerValue = estimate.bitsPerValue
    compressedTokens = estimate.compressedTokens
    float16Bytes = estimate.float16Bytes
    slack = estimate.slack
    parts = Parts(
      codes: estimate.codes,
      tables: estimate.tables,
      scales: estimate.scales,
      tail: estimate.tail,
      sinks: estimate.sinks,
      scratch: estimate.scratch
    )
  }
}
