public import NibbleCodec

/// A policy resolved against a model: one codec for every (layer, KV head, keys or values).
///
/// The cache obeys the plan; ``explanation`` prints it with the reason for every line.
public struct Plan: Sendable {
  /// What one strip kind (one side of one KV head in one layer) is encoded with, and why.
  public struct Entry: Hashable, Sendable {
    /// The attention layer, from 0.
    public let layer: Int
    /// The KV head, from 0.
    public let head: Int
    /// Keys or values.
    public let side: KVSide
    /// What pages are encoded with.
    public let codec: CodecDescription
    /// Bits per value of a strip, with everything that is stored in it.
    public let bitsPerValue: Double
    /// Bytes of a strip, divided by the tokens of a page.
    public let bytesPerToken: Double
    /// What decided it, for example `default keys` or `rule 2 (policy.yaml:14)`.
    public let reason: String
  }

  /// The strips of sealed pages of one age.
  public struct Rung: Sendable {
    /// Tokens: pages all of whose tokens are older than the newest `beyond` are encoded so; 0 for what they are sealed as.
    public let beyond: Int
    /// The codec of the keys of each KV head.
    public let keys: [StripCodec]
    /// The codec of the values of each KV head.
    public let values: [StripCodec]
    /// A page.
    public let pageLayout: PageLayout
  }

  /// The strips and pages of one layer.
  public struct Layer: Sendable {
    /// What pages are sealed as, and what they become with age.
    public let rungs: [Rung]
    /// The codec of the keys of each KV head when a page is sealed.
    public var keys: [StripCodec] { rungs[0].keys }
    /// The codec of the values of each KV head when a page is sealed.
    public var values: [StripCodec] { rungs[0].values }
    /// A page when it is sealed.
    public var pageLayout: PageLayout { rungs[0].pageLayout }
    /// The codec of key rows in a tail page, the same for all heads.
    public let exactKeys: StripCodec
    /// The codec of value rows in a tail page, the same for all heads.
    public let exactValues: StripCodec
    /// A page of the tail.
    public let exactLayout: PageLayout
    /// The codec of key rows in the sink page.
    public let sinkKeys: StripCodec
    /// The codec of value rows in the sink page.
    public let sinkValues: StripCodec
    /// The sink page: ``Plan/sinkPageTokens`` tokens.
    public let sinkLayout: PageLayout
  }

  /// The policy as it was written.
  public let policy: Policy
  /// The model.
  public let shape: ModelShape
  /// Every (layer, head, side): layers first, then keys before values, then heads.
  public let entries: [Entry]
  /// What each layer stores.
  public let layers: [Layer]
  /// What is not compressed, and why: one sentence each.
  public let notes: [String]
  /// Tokens that the sink page has room for: the smallest page length that holds the sinks.
  public let sinkPageTokens: Int
  /// The calibration that some of the codecs use; `nil` if none does.
  package let calibration: Calibration?

  /// Resolves a policy.
  ///
  /// - Parameters:
  ///   - policy: What is asked for.
  ///   - shape: The model.
  ///   - catalogue: The codecs.
  /// - Throws: ``PolicyError`` if the policy or the shape is wrong, if a rule names layers or heads
  ///   that the model lacks, or if a codec does not fit the head dimension or the page length.
  public init(
    policy: Policy,
    shape: ModelShape,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) {
    try shape.validate()
    try policy.validate()
    var resolver = PlanResolver(policy: policy, shape: shape, catalogue: catalogue)
    try resolver.applyRules()
    resolver.leaveShortWindowsExact()

    self.policy = policy
    self.shape = shape
    sinkPageTokens = pageTokens(holding: policy.sinks)
    layers = try resolver.layers(sinkPageTokens: sinkPageTokens)
    let codecs = layers.flatMap(\.rungs).flatMap { $0.keys + $0.values }
    calibration =
      codecs.contains(where: \.description.needsCalibration) ? catalogue.calibration : nil
    entries = resolver.entries(of: layers)
    notes = resolver.notes
  }

  /// The entry of one strip kind.
  ///
  /// - Parameters:
  ///   - layer: The attention layer, from 0.
  ///   - head: The KV head, from 0.
  ///   - side: Keys or values.
  /// - Returns: The entry. An index beyond the model's shape traps.
  public func entry(layer: Int, head: Int, side: KVSide) -> Entry {
    precondition((0..<shape.layers).contains(layer), "layer \(layer) of \(shape.layers)")
    precondition((0..<shape.kvHeads).contains(head), "KV head \(head) of \(shape.kvHeads)")
    return entries[(layer * 2 + (side == .keys ? 0 : 1)) * shape.kvHeads + head]
  }

  /// Bits per value of sealed pages with all side information and padding, over all layers.
  public var bitsPerValue: Double {
    let bytes = layers.reduce(0) { $0 + $1.pageLayout.byteCount }
    return Double(bytes * 8) / Double(valuesPerToken * policy.pageTokens)
  }

  /// Whether pages of some layer are encoded again with age.
  package var hasAges: Bool { layers.contains { $0.rungs.count > 1 } }

  /// Values of one token in all layers, keys and values together.
  var valuesPerToken: Int {
    shape.layers * shape.kvHeads * shape.headDim * 2
  }
}

/// The smallest page length that holds `tokens`; 16 for none.
private func pageTokens(holding tokens: Int) -> Int {
  let step = tokens <= 48 ? 16 : 64
  return max(16, (tokens + step - 1) / step * step)
}
