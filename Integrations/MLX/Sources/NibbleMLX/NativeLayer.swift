import MLXLMCommon
public import NibbleKV

/// What became of a policy in one attention layer.
public struct NativeLayer: Hashable, Sendable {
  /// How much of what the policy asks for the layer's cache does.
  public enum Outcome: String, Hashable, Sendable {
    /// The same code, at the same bits.
    case applied
    /// Another code, other bits or other scales; ``NativeLayer/reasons`` says which.
    case approximated
    /// The rows stay as the model makes them, though the policy asks for codes.
    case skipped
  }

  /// The attention layer, from 0.
  public let layer: Int
  /// Where its cache is among the model's.
  public let cacheIndex: Int
  /// The codec of keys that the policy asks for; where KV heads differ, that of the most bits.
  public let keys: CodecDescription
  /// The codec of values, likewise.
  public let values: CodecDescription
  /// The cache that the layer has.
  public let format: NativeFormat
  /// How near it is to the policy.
  public let outcome: Outcome
  /// What is not as the policy says, one clause each; none where it was applied.
  public let reasons: [String]

  init(
    layer: Int,
    cacheIndex: Int,
    plan: Plan,
    modelCache: any MLXLMCommon.KVCache,
    usesTurboQuant: Bool
  ) {
    self.layer = layer
    self.cacheIndex = cacheIndex
    let keys = Self.wanted(.keys, layer: layer, plan: plan)
    let values = Self.wanted(.values, layer: layer, plan: plan)
    self.keys = keys.codec
    self.values = values.codec

    let headsDiffer = keys.headsDiffer || values.headsDiffer
    let heads = headsDiffer ? ["KV heads share a cache, so the codec of the most bits counts"] : []
    if let kept = NativeFormat.Kept(modelCache) {
      let isExact = keys.codec.isExactRows && values.codec.isExactRows
      format = kept.format
      outcome = isExact ? .applied : .skipped
      reasons = isExact ? [] : [kept.reason]
    } else {
      let choice = NativeChoice(
        keys: keys,
        values: values,
        headDim: plan.shape.headDim,
        usesTurboQuant: usesTurboQuant
      )
      format = choice.format
      reasons = heads + choice.reasons
      let isLeft = choice.format == .fullPrecision && !choice.wantsExactRows
      outcome = isLeft ? .skipped : reasons.isEmpty ? .applied : .approximated
    }
  }

  /// The codec of one side, of the KV head with the most bits.
  private static func wanted(_ side: KVSide, layer: Int, plan: Plan) -> WantedCodec {
    let entries = (0..<plan.shape.kvHeads).map { plan.entry(layer: layer, head: $0, side: side) }
    // Of equals the first head counts, so that the choice does not depend on an order.
    let most = entries.dropFirst().reduce(entries[0]) {
      $1.bitsPerValue > $0.bitsPerValue ? $1 : $0
    }
    return WantedCodec(
      side: side,
      codec: most.codec,
      bitsPerValue: most.bitsPerValue,
      headsDiffer: Set(entries.map(\.codec)).count > 1
    )
  }
}

extension NativeLayer: CustomStringConvertible {
  /// The layer, what was asked for, the cache, and how near it is.
  public var description: String {
    let asked = keys == values ? "\(keys)" : "k=\(keys) v=\(values)"
    let clauses = reasons.isEmpty ? "" : ": " + reasons.joined(separator: "; ")
    return "layer \(layer), \(asked): \(format), \(outcome)\(clauses)"
  }
}

/// What a policy asks for on one side of a layer.
struct WantedCodec {
  let side: KVSide
  let codec: CodecDescription
  /// With scales and all else that is stored.
  let bitsPerValue: Double
  let headsDiffer: Bool

  /// Bits of a code; those of a host's own codec are the nearest to what it stores.
  var bits: Int {
    if case .custom = codec.code { return Int(bitsPerValue.rounded(.down)) }
    return codec.bits
  }
}
