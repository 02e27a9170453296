@_exported public import NibbleCodec
@_exported public import NibbleFiles
@_exported public import NibblePolicy

/// How one layer's attention is computed.
public struct AttentionOptions: Hashable, Sendable {
  /// Factor of the scores; `nil` means 1 / √headDim.
  public var scale: Float?
  /// Sliding window: the positions that a query sees, its own included.
  ///
  /// `nil` means all.
  public var window: Int?
  /// Soft cap c of the scores: c · tanh(score / c).
  ///
  /// `nil` means none.
  public var softCap: Float?

  /// Scaled by 1 / √headDim, without window or cap.
  public static let standard = AttentionOptions()

  /// Creates options.
  public init(scale: Float? = nil, window: Int? = nil, softCap: Float? = nil) {
    self.scale = scale
    self.window = window
    self.softCap = softCap
  }
}

/// What a decoder needs of a cache: append a layer's new keys and values, then attend with its new queries.
///
/// ``KVSequence`` is the compressed one; ``ReferenceCache`` the plain one to compare it with.
public protocol KeyValueStore: AnyObject, Sendable {
  /// The model's shape.
  var shape: ModelShape { get }

  /// Tokens that every layer has.
  var tokenCount: Int { get }

  /// Appends new tokens of one layer.
  ///
  /// - Parameters:
  ///   - keys: Shape (tokens, kvHeads, headDim), rotary embedding applied.
  ///   - values: The same shape.
  ///   - layer: 0 ..< `shape.layers`.
  /// - Throws: ``KVError``; nothing is appended then.
  func append(keys: Span<Float>, values: Span<Float>, layer: Int) throws(KVError)

  /// Causal attention of the newest tokens' queries over everything the layer holds.
  ///
  /// - Parameters:
  ///   - queries: Shape (tokens, queryHeads, headDim). They belong to the layer's newest tokens.
  ///   - layer: 0 ..< `shape.layers`.
  ///   - options: Scale, window and cap.
  ///   - output: The same shape as `queries`.
  /// - Throws: ``KVError``.
  func attend(
    queries: Span<Float>,
    layer: Int,
    options: AttentionOptions,
    into output: inout MutableSpan<Float>
  ) throws(KVError)

  /// Forgets the tokens from `tokenCount` on, in every layer.
  func truncate(to tokenCount: Int) throws(KVError)

  /// Says which tokens the newest rows belong to.
  ///
  /// A store that has no use for ids does nothing.
  ///
  /// - Throws: ``KVError``; nothing is recorded then.
  func record(tokens: Span<Int>) throws(KVError)
}

extension KeyValueStore {
  /// Does nothing.
  public func record(tokens: Span<Int>) throws(KVError) {}
}
