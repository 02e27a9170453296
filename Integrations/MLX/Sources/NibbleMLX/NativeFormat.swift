import MLX
import MLXLMCommon

/// A cache of mlx-swift-lm.
public enum NativeFormat: Hashable, Sendable {
  /// `KVCacheSimple`: rows in the model's own type.
  case fullPrecision
  /// `RotatingKVCache`, as the model made it: rows in the model's own type.
  case rotating(maxSize: Int)
  /// `QuantizedKVCache`: affine codes with a scale and a bias for each group of channels.
  case affine(bits: Int, groupSize: Int)
  /// `TurboQuantKVCache`: a rotation and a table; keys of 0 bits are rows, of 8 bits affine codes.
  case turboQuant(keyBits: Int, valueBits: Int, keyGroupSize: Int)
  /// A cache of another class, as the model made it.
  case other(className: String)

  /// Whether rows become codes.
  public var isCompressed: Bool {
    switch self {
    case .affine, .turboQuant: true
    case .fullPrecision, .rotating, .other: false
    }
  }

  /// A new cache of the format; `nil` where the model's own stays.
  func makeCache() -> (any MLXLMCommon.KVCache)? {
    switch self {
    case .fullPrecision, .rotating, .other: nil
    case .affine(let bits, let groupSize):
      QuantizedKVCache(groupSize: groupSize, bits: bits, mode: .affine)
    case .turboQuant(let keyBits, let valueBits, let keyGroupSize):
      TurboQuantKVCache(
        bits: max(keyBits, valueBits),
        keyBits: keyBits,
        valueBits: valueBits,
        keyGroupSize: keyGroupSize
      )
    }
  }

  /// The format of a cache that stays what it is, and why.
  struct Kept {
    let format: NativeFormat
    let reason: String
  }
}

extension NativeFormat.Kept {
  /// `nil` where another cache can take the place of `cache`.
  init?(_ cache: any MLXLMCommon.KVCache) {
    if let rotating = cache as? RotatingKVCache {
      let size = rotating.maxSize ?? 0
      format = .rotating(maxSize: size)
      reason = "rotating caches hold rows as they are (window of \(size) tokens)"
    } else if cache is KVCacheSimple, !(cache is ChunkedKVCache) {
      return nil
    } else {
      let name = String(describing: type(of: cache))
      format = .other(className: name)
      reason = "the model's \(name) has no compressed counterpart"
    }
  }
}

extension NativeFormat: CustomStringConvertible {
  /// The expression that makes such a cache.
  public var description: String {
    switch self {
    case .fullPrecision: "KVCacheSimple()"
    case .rotating(let maxSize): "RotatingKVCache(maxSize: \(maxSize))"
    case .affine(let bits, let groupSize):
      "QuantizedKVCache(groupSize: \(groupSize), bits: \(bits))"
    case .turboQuant(let keyBits, let valueBits, _):
      "TurboQuantKVCache(keyBits: \(keyBits), valueBits: \(valueBits))"
    case .other(let className): className
    }
  }
}
