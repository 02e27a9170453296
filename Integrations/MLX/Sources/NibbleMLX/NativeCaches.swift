public import MLXLMCommon
public import NibbleKV

/// Caches of mlx-swift-lm that do what a policy of NibbleKV asks for, as far as they can, and what became of it.
///
/// ```swift
/// let native = try NativeCaches(
///   policy: .balanced,
///   shape: shape,
///   modelCaches: model.newCache(parameters: nil)
/// )
/// print(native)
/// let iterator = try TokenIterator(input: input, model: model, cache: native.caches, parameters: parameters)
/// ```
///
/// Leave `kvCache` and `kvBits` of the parameters `nil`, so that mlx-swift-lm converts nothing by itself.
public struct NativeCaches {
  /// One for each of the model's caches, empty, in the same order.
  public let caches: [any MLXLMCommon.KVCache]
  /// What became of the policy in each layer.
  public let layers: [NativeLayer]
  /// What the policy asks for and no native cache can do, for all layers.
  public let notes: [String]

  /// Makes caches.
  ///
  /// Layers with a sliding window, and caches that are no plain `KVCacheSimple`, stay what the model made them. Caches without keys and
  /// values (`MambaCache`, `ArraysCache`) are no attention layers and do not count.
  ///
  /// - Parameters:
  ///   - policy: What to compress, and how hard.
  ///   - shape: The model; its windows are taken from `modelCaches`.
  ///   - modelCaches: What `newCache(parameters:)` of the model makes, empty; `nil` makes a `RotatingKVCache` for each window of `shape`,
  ///     and a `KVCacheSimple` for the other layers.
  ///   - catalogue: The codecs that the policy may name, and the model's calibration.
  ///   - usesTurboQuant: Whether `TurboQuantKVCache` may be used; its kernels need Metal.
  /// - Throws: ``NativeCacheError``.
  public init(
    policy: Policy,
    shape: ModelShape,
    modelCaches: [any MLXLMCommon.KVCache]? = nil,
    catalogue: CodecCatalogue = .standard,
    usesTurboQuant: Bool = true
  ) throws(NativeCacheError) {
    let given = modelCaches ?? Self.caches(of: shape)
    if let used = given.firstIndex(where: { $0.offset > 0 }) {
      throw .cacheInUse(index: used, tokens: given[used].offset)
    }
    let attention = given.indices.filter { !(given[$0] is ArraysCache) }
    guard attention.count == shape.layers else {
      throw .wrongLayerCount(caches: attention.count, layers: shape.layers)
    }
    var shape = shape
    shape.slidingWindows = attention.map { (given[$0] as? RotatingKVCache)?.maxSize }
    let plan = try Self.plan(policy, shape, catalogue)

    var caches = given
    var layers: [NativeLayer] = []
    for (layer, index) in attention.enumerated() {
      let report = NativeLayer(
        layer: layer,
        cacheIndex: index,
        plan: plan,
        modelCache: given[index],
        usesTurboQuant: usesTurboQuant
      )
      caches[index] = report.format.makeCache() ?? given[index]
      layers.append(report)
    }
    self.caches = caches
    self.layers = layers
    notes = Self.notes(on: policy, layers)
  }

  private static func caches(of shape: ModelShape) -> [any MLXLMCommon.KVCache] {
    shape.slidingWindows.map { window in
      if let window { RotatingKVCache(maxSize: window) } else { KVCacheSimple() }
    }
  }

  private static func plan(
    _ policy: Policy,
    _ shape: ModelShape,
    _ catalogue: CodecCatalogue
  ) throws(NativeCacheError) -> Plan {
    do throws(PolicyError) {
      return try Plan(policy: policy, shape: shape, catalogue: catalogue)
    } catch {
      throw .policy(error)
    }
  }

  /// What no native cache does, where the policy asks for it and some layer is compressed.
  private static func notes(on policy: Policy, _ layers: [NativeLayer]) -> [String] {
    guard layers.contains(where: \.format.isCompressed) else { return [] }
    var notes: [String] = []
    if policy.sinks > 0 || policy.recent > 0 {
      notes.append(
        "the first \(policy.sinks) and the newest \(policy.recent) tokens are compressed like all others: "
          + "native caches keep none exact"
      )
    }
    if !policy.ages.isEmpty {
      notes.append("tokens keep their bits as they age: native caches encode them once")
    }
    if policy.skipBelow > 0 {
      notes.append("attention reads all tokens: native caches skip none (skip_below)")
    }
    return notes
  }
}

extension NativeCaches: CustomStringConvertible {
  /// A line for each layer, then the notes.
  public var description: String {
    (layers.map(\.description) + notes.map { "note: \($0)" }).joined(separator: "\n")
  }
}

/// Why no native caches were made.
public enum NativeCacheError: Error, Hashable, Sendable {
  /// The model's attention caches and the shape's layers are not as many.
  case wrongLayerCount(caches: Int, layers: Int)
  /// A cache of the model holds tokens, which would be lost.
  case cacheInUse(index: Int, tokens: Int)
  /// The policy has a mistake, or does not fit the shape.
  case policy(PolicyError)
}

extension NativeCacheError: CustomStringConvertible {
  /// What is wrong, with the values.
  public var description: String {
    switch self {
    case .wrongLayerCount(let caches, let layers):
      "the model has \(caches) attention caches, but the shape \(layers) layers"
    case .cacheInUse(let index, let tokens):
      "cache \(index) of the model holds \(tokens) tokens; empty ones are needed"
    case .policy(let error): "\(error)"
    }
  }
}
