// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

public enum DType: Hashable, Sendable, CaseIterable {
  case bool
  case uint8
  case uint16
  case uint32
  case uint64
  case int8
  case int16
  case int32
  case int64
  case float16
  case float32
  case bfloat16
  case complex64
  case float64

  /// A number as the type holds it; of the types here, floating-point ones round.
  func rounded(_ number: Float) -> Float {
    switch self {
    case .float16: return Float(Float16(number))
    case .bfloat16:
      guard number.isFinite else { return number }
      // To the nearest of 16 bits, ties to even.
      let bits = number.bitPattern
      return Float(bitPattern: (bits &+ 0x7fff &+ ((bits >> 16) & 1)) & 0xffff_0000)
    default: return number
    }
  }
}

/// A type of numbers; in MLX it has more requirements.
public protocol HasDType {
  static var dtype: DType { get }
  var number: Float { get }
  init(number: Float)
}

extension Float: HasDType {
  public static var dtype: DType { .float32 }
  public var number: Float { self }
  public init(number: Float) { self = number }
}

extension Bool: HasDType {
  public static var dtype: DType { .bool }
  public var number: Float { self ? 1 : 0 }
  public init(number: Float) { self = number != 0 }
}

public struct StreamOrDevice: Sendable, Equatable {
  public static var `default`: StreamOrDevice { StreamOrDevice() }
}

public protocol Evaluatable {
  func innerState() -> [MLXArray]
}

public enum QuantizationMode: String, Codable, Sendable {
  case affine
  case mxfp4
}

public enum MLXFast {
  public enum ScaledDotProductAttentionMaskMode {
    case none
    case array(MLXArray)
    case causal
  }
}
