public import NibbleKV

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
  /// Tokens.
  public var context: Int
  /// All bytes at the peak: the parts, and what slabs round up.
  public var bytes: Int
  /// Bytes for each token.
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

  private enum CodingKeys: String, CodingKey {
    case policy, context, bytes
    case bytesPerToken = "bytes_per_token"
    case bitsPerValue = "bits_per_value"
    case compressedTokens = "compressed_tokens"
    case float16Bytes = "float16_bytes"
    case parts, slack
  }

  /// Plans a context.
  ///
  /// - Parameters:
  ///   - policy: What to compress, and how hard.
  ///   - shape: The model.
  ///   - context: Tokens.
  ///   - chunk: Tokens that a prefill appends at once.
  ///   - threads: Threads of the cache.
  ///   - catalogue: What the policy may refer to.
  /// - Throws: `PolicyError` if the policy does not fit the model or a number is out of its range.
  public init(
    policy: Policy,
    shape: ModelShape,
    context: Int,
    chunk: Int,
    threads: Int,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) {
    let plan = try Plan(policy: policy, shape: shape, catalogue: catalogue)
    let estimate = try plan.estimate(context: context, chunk: chunk, threads: threads)
    self.policy = policy.label
    self.context = context
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

/// What `policy explain` reports.
public struct PolicyExplanation: Encodable, Hashable, Sendable {
  /// Equal strips of several layers and heads.
  public struct Row: Encodable, Hashable, Sendable {
    /// The layers, for example `0-1,30-31` or `all`.
    public var layers: String
    /// The KV heads.
    public var kvHeads: String
    /// `keys` or `values`.
    public var side: String
    /// The codec, with the options that differ from its defaults.
    public var codec: String
    /// Bits per value, with everything that is stored.
    public var bitsPerValue: Double
    /// Bytes per token of one layer and one KV head.
    public var bytesPerToken: Double
    /// What decided it.
    public var reason: String

    private enum CodingKeys: String, CodingKey {
      case layers
      case kvHeads = "kv_heads"
      case side, codec
      case bitsPerValue = "bits_per_value"
      case bytesPerToken = "bytes_per_token"
      case reason
    }
  }

  /// The policy as it was given.
  public var policy: String
  /// Bits per value of sealed pages, over all layers.
  public var bitsPerValue: Double
  /// One row a group.
  public var rows: [Row]
  /// What is not compressed, and why.
  public var notes: [String]

  private enum CodingKeys: String, CodingKey {
    case policy
    case bitsPerValue = "bits_per_value"
    case rows, notes
  }

  /// Explains a plan.
  public init(plan: Plan) {
    policy = plan.policy.label
    bitsPerValue = plan.bitsPerValue
    notes = plan.notes
    let shape = plan.shape
    rows = plan.groups.map { group in
      let strips =
        group.layers.reduce(0) { $0 + $1.count } * group.heads.reduce(0) { $0 + $1.count }
      return Row(
        layers: IndexSelection.text(group.layers, of: shape.layers),
        kvHeads: IndexSelection.text(group.heads, of: shape.kvHeads),
        side: group.side.rawValue,
        codec: "\(group.codec)",
        bitsPerValue: group.bitsPerValue,
        bytesPerToken: group.bytesPerToken / Double(strips),
        reason: group.reason
      )
    }
  }
}

extension IndexSelection {
  /// Ranges of indices in the words of the policy file.
  static func text(_ ranges: [ClosedRange<Int>], of count: Int) -> String {
    if ranges == [0...(count - 1)] { return "\(IndexSelection.all)" }
    return ranges.map { "\(IndexSelection.range($0))" }.joined(separator: ",")
  }
}
