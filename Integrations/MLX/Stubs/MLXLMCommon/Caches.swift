// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

public import MLX

public class KVCacheSimple: BaseKVCache {
  private var rows: (keys: MLXArray, values: MLXArray)?

  public override init() { super.init() }

  public override func innerState() -> [MLXArray] { rows.map { [$0.keys, $0.values] } ?? [] }

  public override func update(keys: MLXArray, values: MLXArray) -> (MLXArray, MLXArray) {
    let held = state
    let all =
      held.isEmpty
      ? (keys, values)
      : (concatenated([held[0], keys], axis: 2), concatenated([held[1], values], axis: 2))
    rows = all
    offset = all.0.dim(2)
    return all
  }

  public override var state: [MLXArray] {
    get {
      rows.map { [$0.keys.prefix(rows: offset), $0.values.prefix(rows: offset)] } ?? []
    }
    set {
      precondition(newValue.count == 2, "keys and values are needed")
      rows = (newValue[0], newValue[1])
      offset = newValue[0].dim(2)
    }
  }

  public override var isTrimmable: Bool { true }

  @discardableResult
  public override func trim(_ n: Int) -> Int {
    let trimmed = min(offset, n)
    offset -= trimmed
    return trimmed
  }

  public override func copy() -> any KVCache {
    let copy = KVCacheSimple()
    if rows != nil { copy.state = state }
    return copy
  }
}

// The following are made and looked at, and never filled.

public class ChunkedKVCache: KVCacheSimple {
  public init(chunkSize: Int? = nil) { super.init() }
}

public class RotatingKVCache: BaseKVCache {
  private let limit: Int
  public override var maxSize: Int? { limit }

  public init(maxSize: Int, keep: Int = 0, step: Int = 256) {
    limit = maxSize
    super.init()
  }
}

public class QuantizedKVCache: BaseKVCache {
  public private(set) var groupSize: Int
  public private(set) var bits: Int
  public let mode: QuantizationMode

  public init(groupSize: Int = 64, bits: Int = 8, mode: QuantizationMode = .affine) {
    self.groupSize = groupSize
    self.bits = bits
    self.mode = mode
    super.init()
  }
}

public class TurboQuantKVCache: BaseKVCache {
  public let bits: Int
  public let keyBits: Int
  public let valueBits: Int
  public private(set) var keyGroupSize: Int

  public init(
    bits: Int = 4,
    keyBits: Int? = nil,
    valueBits: Int? = nil,
    seed: UInt64 = 42,
    keyGroupSize: Int = 64
  ) {
    self.bits = bits
    self.keyBits = keyBits ?? bits
    self.valueBits = valueBits ?? bits
    self.keyGroupSize = keyGroupSize
    super.init()
  }
}

public class ArraysCache: BaseKVCache {
  public init(size: Int, leftPadding: [Int]? = nil) { super.init() }
}

public class MambaCache: ArraysCache {
  public init(leftPadding: [Int]? = nil) { super.init(size: 2, leftPadding: leftPadding) }
}
