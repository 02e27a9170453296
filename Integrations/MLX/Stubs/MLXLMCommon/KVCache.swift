// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

public import MLX

// The interface of caches in mlx-swift-lm (revision 14414441), as far as this package uses it.

public enum RoPEOffset {
  case scalar(Int)
  case batch(MLXArray)
}

public protocol KVCache: Evaluatable {
  var offset: Int { get }
  var ropeOffset: RoPEOffset { get }
  var maxSize: Int? { get }
  func update(keys: MLXArray, values: MLXArray) -> (MLXArray, MLXArray)
  var state: [MLXArray] { get set }
  var metaState: [String] { get set }
  var isTrimmable: Bool { get }
  func isTrimmable(after positions: Int) -> Bool
  @discardableResult
  func trim(_ n: Int) -> Int
  func makeMask(
    n: Int,
    windowSize: Int?,
    returnArray: Bool
  ) -> MLXFast.ScaledDotProductAttentionMaskMode
  func copy() -> any KVCache
  func prepare(lengths: [Int]?)
  func prepare(lengths: MLXArray?)
  func finalize()
}

extension KVCache {
  public var ropeOffset: RoPEOffset { .scalar(offset) }
  public func isTrimmable(after positions: Int) -> Bool { isTrimmable }
  public func prepare(lengths: [Int]?) {}
  public func prepare(lengths: MLXArray?) {}
  public func finalize() {}
}

open class BaseKVCache: KVCache {
  public var offset: Int = 0
  public var maxSize: Int? { nil }
  open var ropeOffset: RoPEOffset { .scalar(offset) }

  // As in mlx-swift-lm, nobody outside the module can make subclasses: the initialiser is not public.
  init() {}

  public func innerState() -> [MLXArray] { [] }

  open func update(keys: MLXArray, values: MLXArray) -> (MLXArray, MLXArray) {
    fatalError("a subclass must append")
  }

  open var state: [MLXArray] {
    get { [] }
    set { precondition(newValue.isEmpty, "this cache has no state") }
  }

  open var metaState: [String] {
    get { [""] }
    set { precondition(newValue == [""], "this cache has no meta state") }
  }

  open var isTrimmable: Bool { false }
  open func isTrimmable(after positions: Int) -> Bool { isTrimmable }
  @discardableResult
  open func trim(_ n: Int) -> Int { 0 }
  open func copy() -> any KVCache { fatalError("a subclass must copy") }
  open func prepare(lengths: [Int]?) {}
  open func prepare(lengths: MLXArray?) {}
  open func finalize() {}

  open func makeMask(
    n: Int,
    windowSize: Int?,
    returnArray: Bool
  ) -> MLXFast.ScaledDotProductAttentionMaskMode {
    if n == 1 { return .none }
    if returnArray || windowSize.map({ n > $0 }) == true {
      return .array(createCausalMask(n: n, offset: offset, windowSize: windowSize))
    }
    return .causal
  }
}

public func createCausalMask(
  n: Int,
  offset: Int,
  windowSize: Int? = nil,
  lengths: MLXArray? = nil
) -> MLXArray {
  let seen = (offset..<(offset + n)).flatMap { query in
    (0..<(offset + n)).map { key in
      key <= query && windowSize.map { query < key + $0 } != false
    }
  }
  return MLXArray(seen, [n, offset + n])
}
