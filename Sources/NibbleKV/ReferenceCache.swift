public import NibblePolicy
import Synchronization

/// A plain cache: 32-bit rows and ``ReferenceAttention``.
///
/// Slow and exact; for tests and comparisons.
public final class ReferenceCache: KeyValueStore {
  /// The model's shape.
  public let shape: ModelShape
  private let layers: Mutex<[Rows]>

  private struct Rows {
    var keys: [Float] = []
    var values: [Float] = []
  }

  /// Creates an empty cache.
  ///
  /// - Precondition: `shape` has layers, heads and channels.
  public init(shape: ModelShape) {
    precondition(
      shape.layers > 0 && shape.queryHeads > 0 && shape.kvHeads > 0 && shape.headDim > 0,
      "no model has the shape \(shape)"
    )
    self.shape = shape
    layers = Mutex(Array(repeating: Rows(), count: shape.layers))
  }

  private var rowLength: Int { shape.kvHeads * shape.headDim }

  /// Tokens that every layer has.
  public var tokenCount: Int {
    layers.withLock { $0.map(\.keys.count).min() ?? 0 } / rowLength
  }

  /// Appends new tokens of one layer; see ``KeyValueStore``.
  public func append(keys: Span<Float>, values: Span<Float>, layer: Int) throws(KVError) {
    try AppendCheck.check(keys: keys, values: values, layer: layer, shape: shape, limit: .infinity)
    let newKeys = Self.array(keys)
    let newValues = Self.array(values)
    layers.withLock {
      $0[layer].keys += newKeys
      $0[layer].values += newValues
    }
  }

  /// Causal attention in double precision; see ``KeyValueStore``.
  public func attend(
    queries: Span<Float>,
    layer: Int,
    options: AttentionOptions,
    into output: inout MutableSpan<Float>
  ) throws(KVError) {
    let rows = layers.withLock { layer >= 0 && layer < $0.count ? $0[layer] : Rows() }
    let outputCount = output.count
    try queries.withUnsafeBufferPointer { queries throws(KVError) in
      _ = try AttendCheck.check(
        queries: queries,
        output: outputCount,
        layer: layer,
        tokens: rows.keys.count / rowLength,
        shape: shape,
        options: options
      )
    }
    let result = ReferenceAttention.attend(
      queries: Self.array(queries),
      keys: rows.keys,
      values: rows.values,
      shape: shape,
      options: options
    )
    for index in result.indices { output[index] = Float(result[index]) }
  }

  /// Forgets the tokens from `tokenCount` on.
  public func truncate(to tokenCount: Int) throws(KVError) {
    let rowLength = self.rowLength
    try layers.withLock { layers throws(KVError) in
      let count = (layers.map(\.keys.count).min() ?? 0) / rowLength
      guard tokenCount >= 0, tokenCount <= count else {
        throw .positionOutOfRange(position: tokenCount, tokens: count)
      }
      let length = tokenCount * rowLength
      for index in layers.indices {
        layers[index].keys.removeLast(layers[index].keys.count - length)
        layers[index].values.removeLast(layers[index].values.count - length)
      }
    }
  }

  private static func array(_ span: Span<Float>) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(span.count)
    for index in span.indices { result.append(span[index]) }
    return result
  }
}
