/// The attention shape of a model: everything that a cache needs to know about it.
///
/// A cache row is the key (or value) vector of one token and one KV head: ``headDim`` floats.
public struct ModelShape: Hashable, Sendable, Codable {
  /// Attention layers.
  ///
  /// Layers without attention do not count.
  public var layers: Int
  /// Query heads of each layer, a multiple of ``kvHeads``.
  public var queryHeads: Int
  /// Key and value heads of each layer.
  public var kvHeads: Int
  /// Channels of one head: a multiple of 8 from 8 to 512.
  public var headDim: Int
  /// The sliding window of each layer in tokens; `nil` where a layer attends to everything.
  public var slidingWindows: [Int?]
  /// What names the model's weights, so that files made for another model are refused; `nil` if the host does not say.
  public var fingerprint: String?

  /// Creates a shape.
  ///
  /// Nothing is checked here; ``validate()`` does that.
  ///
  /// - Parameters:
  ///   - layers: Attention layers.
  ///   - queryHeads: Query heads of each layer.
  ///   - kvHeads: Key and value heads of each layer.
  ///   - headDim: Channels of one head.
  ///   - slidingWindows: One window (or `nil`) for each layer; `nil` means full attention in all.
  ///   - fingerprint: What names the model's weights.
  public init(
    layers: Int,
    queryHeads: Int,
    kvHeads: Int,
    headDim: Int,
    slidingWindows: [Int?]? = nil,
    fingerprint: String? = nil
  ) {
    self.layers = layers
    self.queryHeads = queryHeads
    self.kvHeads = kvHeads
    self.headDim = headDim
    self.fingerprint = fingerprint
    // A wild layer count must reach validate() rather than exhaust memory here.
    let count = min(max(layers, 0), Self.layerLimit + 1)
    self.slidingWindows = slidingWindows ?? Array(repeating: nil, count: count)
  }

  /// Most attention layers that a shape may have.
  public static let layerLimit = 512
  /// Most query heads (and so KV heads) that a layer may have.
  public static let headLimit = 512
  /// Most tokens that a window or a context may have.
  public static let tokenLimit = 16_777_216

  /// Checks that every number is within its limits and that they fit together.
  ///
  /// - Throws: ``PolicyError`` that names the value and the limit.
  public func validate() throws(PolicyError) {
    try check(layers, "layers", in: 1...Self.layerLimit)
    try check(queryHeads, "query heads", in: 1...Self.headLimit)
    try check(kvHeads, "KV heads", in: 1...Self.headLimit)
    guard queryHeads % kvHeads == 0 else {
      throw PolicyError(
        "model shape: \(queryHeads) query heads are no multiple of \(kvHeads) KV heads"
      )
    }
    try check(headDim, "head dimension", in: 8...512)
    guard headDim % 8 == 0 else {
      throw PolicyError("model shape: head dimension \(headDim) is no multiple of 8")
    }
    guard slidingWindows.count == layers else {
      throw PolicyError(
        "model shape: \(slidingWindows.count) sliding windows are given for \(layers) layers"
      )
    }
    for (layer, window) in slidingWindows.enumerated() {
      guard let window else { continue }
      try check(window, "sliding window of layer \(layer)", in: 1...Self.tokenLimit)
    }
  }

  private func check(
    _ value: Int,
    _ what: String,
    in range: ClosedRange<Int>
  ) throws(PolicyError) {
    guard range.contains(value) else {
      throw PolicyError(
        "model shape: \(what) is \(value); expected \(range.lowerBound) to \(range.upperBound)"
      )
    }
  }
}
