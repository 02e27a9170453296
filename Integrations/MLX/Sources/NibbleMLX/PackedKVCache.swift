public import MLX
public import MLXLMCommon
public import NibbleKV

/// One layer of a sequence of NibbleKV as a cache of mlx-swift-lm.
///
/// ```swift
/// let store = try NibbleKV.KVCache(model: shape, policy: .balanced)
/// let sequence = store.makeSequence()
/// let caches = try PackedKVCache.layers(of: sequence)
/// // … generate with `cache: caches` …
/// try sequence.save(to: "a.session")
/// ```
///
/// mlx-swift-lm computes attention itself and takes rows from a cache, so ``update(keys:values:)`` decodes all rows of the layer for every step, and copies them
/// to the CPU and back: it shows that the pages hold what the model needs, and is not fast. Rows are compressed; the decoded ones of a layer are gone after its step.
///
/// Nothing here throws, as the protocol has no room for errors. What NibbleKV refuses (a batch, other shapes, numbers that are not finite, an exceeded
/// budget) is told by ``failure``, and the layer goes on with `KVCacheSimple`, from the rows that it holds, until its ``state`` is set.
/// The sequence ends where the layer left, for a session too, and cannot be cut behind that: what the other layers trim there stays in their pages, unseen,
/// until all are trimmed to there or further.
/// Only pages that cannot be read back from a disk tier end the process: nothing could stand for them.
public final class PackedKVCache: MLXLMCommon.KVCache {
  /// Tokens that the layer holds.
  public private(set) var offset: Int
  /// Why the layer is not compressed; `nil` as long as it is.
  public private(set) var failure: (any Error)?

  private let layer: Int
  private let shared: SharedSequence
  private var plain: KVCacheSimple?
  private var dtype = DType.float16

  /// The layers of a sequence, one cache each.
  ///
  /// Nobody else may append to the sequence or shorten it while they are in use.
  ///
  /// - Parameter sequence: Empty, or with tokens; those that not every layer has are forgotten.
  /// - Returns: One cache for each layer, in order.
  /// - Throws: ``PackedCacheError/slidingWindow(layer:tokens:)`` where the shape has windows: rows behind one would be lost, and the host's
  ///   masks leave them out by themselves; and ``PackedCacheError/sequence(_:)``.
  public static func layers(
    of sequence: KVSequence
  ) throws(PackedCacheError) -> [PackedKVCache] {
    let shared = try SharedSequence(sequence)
    return sequence.shape.slidingWindows.indices.map { PackedKVCache(layer: $0, of: shared) }
  }

  private init(layer: Int, of shared: SharedSequence) {
    self.layer = layer
    self.shared = shared
    offset = shared.counts[layer]
  }

  // MARK: - Rows

  /// Appends rows, and returns all rows of the layer as its pages hold them.
  ///
  /// - Parameters:
  ///   - keys: Shape (1, kvHeads, tokens, headDim), rotary embedding applied.
  ///   - values: The same shape.
  /// - Returns: Keys and values of the shape (1, kvHeads, ``offset``, headDim), of the type of `keys`.
  public func update(keys: MLXArray, values: MLXArray) -> (MLXArray, MLXArray) {
    if append(keys: keys, values: values, isState: false) { return rows() }
    guard let plain else { preconditionFailure("layer \(layer) has no cache") }
    defer { offset = plain.offset }
    return plain.update(keys: keys, values: values)
  }

  /// Appends to the pages; `false`, with `plain` for the rows, if the layer is not compressed.
  private func append(keys: MLXArray, values: MLXArray, isState: Bool) -> Bool {
    guard plain == nil else { return false }
    do throws(PackedCacheError) {
      try shared.append(keys: keys, values: values, layer: layer, isState: isState)
    } catch {
      goOnUncompressed(because: error)
      return false
    }
    dtype = keys.dtype
    offset = shared.counts[layer]
    return true
  }

  private func rows() -> (MLXArray, MLXArray) {
    do throws(PackedCacheError) {
      return try shared.rows(layer: layer, count: offset, dtype: dtype)
    } catch {
      fatalError("layer \(layer): \(error)")
    }
  }

  private func goOnUncompressed(because error: any Error) {
    failure = error
    let cache = KVCacheSimple()
    if offset > 0 { cache.state = state }
    plain = cache
    shared.leave(layer: layer)
    if case PackedCacheError.trimmedAlone(tokens: 0, _, _) = error { waitForOthers() }
  }

  private func waitForOthers() {
    shared.wait(layer: layer) { [weak self] in self?.comeBack() }
  }

  /// Moves the rows into the sequence, where all others are empty now.
  private func comeBack() {
    guard let plain else { return }
    if plain.offset > 0 {
      let rows = plain.state
      do throws(PackedCacheError) {
        try shared.append(keys: rows[0], values: rows[1], layer: layer, isState: true)
      } catch {
        failure = error
        shared.leave(layer: layer)
        return
      }
      dtype = rows[0].dtype
    }
    self.plain = nil
    failure = nil
  }

  // MARK: - State

  /// The decoded keys and values, or nothing where the layer is empty.
  ///
  /// It decodes the layer each time; mlx-swift-lm asks after every token. `savePromptCache` writes it as an uncompressed `KVCache`.
  ///
  /// Setting it replaces the rows, and the layer begins anew: what was refused before does not count any more. A sequence cannot lose the rows of one layer, so as long as
  /// another layer has rows from before, the layer holds the new ones uncompressed, and ``failure`` is ``PackedCacheError/trimmedAlone(tokens:otherLayer:otherTokens:)``. When the last
  /// layer is set or emptied, all are compressed. So set each layer once, in any order. A layer that is set alone stays uncompressed.
  public var state: [MLXArray] {
    get {
      if let plain { return plain.state }
      guard offset > 0 else { return [] }
      let (keys, values) = rows()
      return [keys, values]
    }
    set {
      plain = nil
      failure = nil
      offset = 0
      shared.empty(layer: layer)
      guard newValue.count == 2 else { return }
      if append(keys: newValue[0], values: newValue[1], isState: true) { return }
      plain?.state = newValue
      offset = plain?.offset ?? 0
    }
  }

  /// One empty text, as `KVCacheSimple` has; what is set is ignored.
  public var metaState: [String] {
    get { [""] }
    set {}
  }

  /// Nothing: the rows are in pages.
  public func innerState() -> [MLXArray] { [] }

  // MARK: - Length

  /// There is no limit.
  public var maxSize: Int? { nil }

  /// Always.
  public var isTrimmable: Bool { true }

  /// Forgets the newest tokens; all layers of a sequence are to be trimmed alike, as `trimPromptCache` does.
  @discardableResult
  public func trim(_ n: Int) -> Int {
    let trimmed = min(offset, max(0, n))
    if let plain { plain.trim(trimmed) }
    offset -= trimmed
    if plain == nil { shared.trim(layer: layer, to: offset) }
    return trimmed
  }

  /// The same rows for another continuation; pages are shared until one of the two appends.
  ///
  /// Layers that are copied one after the other become layers of one sequence.
  public func copy() -> any MLXLMCommon.KVCache {
    let copy = PackedKVCache(layer: layer, of: shared.fork(for: layer))
    copy.offset = offset
    copy.dtype = dtype
    copy.failure = failure
    copy.plain = plain?.copy() as? KVCacheSimple
    if shared.isWaiting(layer: layer) { copy.waitForOthers() }
    return copy
  }

  /// The mask of `n` new tokens: causal, and none for one token, unless a window leaves out held ones or an array is asked for.
  public func makeMask(
    n: Int,
    windowSize: Int?,
    returnArray: Bool
  ) -> MLXFast.ScaledDotProductAttentionMaskMode {
    if let windowSize, offset + n > windowSize {
      return .array(createCausalMask(n: n, offset: offset, windowSize: windowSize))
    }
    if n == 1 { return .none }
    return returnArray ? .array(createCausalMask(n: n, offset: offset)) : .causal
  }
}

/// Why rows are not in pages of NibbleKV.
public enum PackedCacheError: Error, Sendable {
  /// The shape says that a layer drops rows, which a cache must hand back.
  case slidingWindow(layer: Int, tokens: Int)
  /// Rows of another shape than the sequence's.
  case wrongShape(keys: [Int], values: [Int], expected: [Int])
  /// The layer was trimmed and another was not, though both are of one sequence.
  case trimmedAlone(tokens: Int, otherLayer: Int, otherTokens: Int)
  /// NibbleKV refused.
  case sequence(KVError)
}

extension PackedCacheError: CustomStringConvertible {
  /// What is wrong, with the values and the limit.
  public var description: String {
    switch self {
    case .slidingWindow(let layer, let tokens):
      "layer \(layer) of the shape has a window of \(tokens) tokens; leave windows out of it, the model's masks have them"
    case .wrongShape(let keys, let values, let expected):
      "keys of shape \(keys) and values of \(values); expected \(expected), with any number of tokens"
    case .trimmedAlone(let tokens, let otherLayer, let otherTokens):
      "trimmed to \(tokens) tokens, but layer \(otherLayer) has \(otherTokens): trim all layers of a sequence alike"
    case .sequence(let error): "\(error)"
    }
  }
}
