import MLX
import NibbleKV

/// A sequence whose layers are handed out as caches of their own.
///
/// A sequence is shortened in all layers at once, but caches are trimmed one by one. So trimming counts only, and the sequence is shortened
/// when the first of its layers goes on.
final class SharedSequence {
  /// Tokens of each layer, trimmed ones left out.
  private(set) var counts: [Int]

  private let sequence: KVSequence
  /// Tokens of each layer in the sequence.
  private var held: [Int]
  private weak var lastFork: SharedSequence?
  private var layersOfLastFork: Set<Int> = []

  init(_ sequence: KVSequence) throws(PackedCacheError) {
    for (layer, window) in sequence.shape.slidingWindows.enumerated() {
      if let window { throw .slidingWindow(layer: layer, tokens: window) }
    }
    self.sequence = sequence
    counts = Array(repeating: sequence.tokenCount, count: sequence.shape.layers)
    held = counts
    try shorten(to: sequence.tokenCount)
  }

  private init(forkOf other: SharedSequence) {
    sequence = other.sequence.fork()
    counts = other.counts
    held = other.held
  }

  /// Appends rows of the shape (1, kvHeads, tokens, headDim) to a layer, behind what is left of it.
  func append(keys: MLXArray, values: MLXArray, layer: Int) throws(PackedCacheError) {
    let shape = sequence.shape
    let expected = [1, shape.kvHeads, keys.ndim == 4 ? keys.dim(2) : 1, shape.headDim]
    guard keys.shape == expected, values.shape == expected else {
      throw .wrongShape(keys: keys.shape, values: values.shape, expected: expected)
    }
    if held[layer] > counts[layer] { try shorten(to: counts[layer]) }
    let (keys, values) = (Self.rows(of: keys), Self.rows(of: values))
    do throws(KVError) {
      try sequence.append(keys: keys.span, values: values.span, layer: layer)
    } catch {
      throw .sequence(error)
    }
    held[layer] += expected[2]
    counts[layer] = held[layer]
    lastFork = nil
  }

  /// The first rows of a layer, decoded: keys and values of the shape (1, kvHeads, count, headDim).
  func rows(
    layer: Int,
    count: Int,
    dtype: DType
  ) throws(PackedCacheError) -> (MLXArray, MLXArray) {
    let shape = sequence.shape
    do throws(KVError) {
      let rows = try sequence.decodedRows(layer: layer)
      let numbers = count * shape.kvHeads * shape.headDim
      func array(_ rows: [Float]) -> MLXArray {
        MLXArray(Array(rows[..<numbers]), [1, count, shape.kvHeads, shape.headDim])
          .transposed(0, 2, 1, 3)
          .asType(dtype)
      }
      return (array(rows.keys), array(rows.values))
    } catch {
      throw .sequence(error)
    }
  }

  /// Counts fewer tokens of a layer.
  func trim(layer: Int, to count: Int) {
    counts[layer] = count
  }

  /// The sequence that a copy of a layer belongs to: the same for layers that are copied without a change in between.
  func fork(for layer: Int) -> SharedSequence {
    if let lastFork, lastFork.counts == counts, layersOfLastFork.insert(layer).inserted {
      return lastFork
    }
    let fork = SharedSequence(forkOf: self)
    lastFork = fork
    layersOfLastFork = [layer]
    return fork
  }

  private func shorten(to count: Int) throws(PackedCacheError) {
    if let longer = counts.firstIndex(where: { $0 > count }) {
      throw .trimmedAlone(tokens: count, otherLayer: longer, otherTokens: counts[longer])
    }
    do throws(KVError) {
      try sequence.truncate(to: count)
    } catch {
      throw .sequence(error)
    }
    held = held.map { min($0, count) }
  }

  /// Numbers as NibbleKV takes them: (tokens, kvHeads, headDim).
  private static func rows(of array: MLXArray) -> [Float] {
    array.asType(.float32).transposed(0, 2, 1, 3).asArray(Float.self)
  }
}
