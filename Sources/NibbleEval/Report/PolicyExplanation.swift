public import NibbleKV

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
