import MLX
import NibbleKV

/// A sequence whose layers are handed out as caches of their own.
///
/// A sequence is shortened in all layers at once, but caches are trimmed one by one. So trimming counts only, and the sequence is shortened
/// when the first of its layers goes on.
///
/// A layer that has left keeps its rows in the sequence, which can then not be cut behind them. The other layers leave out rows that are trimmed there,
/// without cutting them off: those stay in pages until all layers are trimmed to where the layer left, or further. All that is left out lies behind the sequence's
/// `tokenCount`, so a session never has it: the layer comes back only into an empty sequence, or into one in which nothing is left out.
final class SharedSequence {
  /// Tokens of each layer, trimmed ones left out.
  var counts: [Int] { layers.map(\.count) }

  private let sequence: KVSequence
  private var layers: [Layer]
  /// What layers that were emptied alone, and have left, do when all others are empty.
  private var waiting: [Int: () -> Void] = [:]
  private weak var lastFork: SharedSequence?
  private var layersOfLastFork: Set<Int> = []

  init(_ sequence: KVSequence) throws(PackedCacheError) {
    for (layer, window) in sequence.shape.slidingWindows.enumerated() {
      if let window { throw .slidingWindow(layer: layer, tokens: window) }
    }
    self.sequence = sequence
    let layer = Layer(count: sequence.tokenCount)
    layers = Array(repeating: layer, count: sequence.shape.layers)
    try truncate(to: layer.count)
  }

  private init(forkOf other: SharedSequence) {
    sequence = other.sequence.fork()
    layers = other.layers
  }

  /// Appends rows of the shape (1, kvHeads, tokens, headDim) to a layer, behind what is left of it.
  ///
  /// `isState` says that the rows are a state that was set; the other layers' may follow.
  func append(
    keys: MLXArray,
    values: MLXArray,
    layer: Int,
    isState: Bool
  ) throws(PackedCacheError) {
    let shape = sequence.shape
    let expected = [1, shape.kvHeads, keys.ndim == 4 ? keys.dim(2) : 1, shape.headDim]
    guard keys.shape == expected, values.shape == expected else {
      throw .wrongShape(keys: keys.shape, values: values.shape, expected: expected)
    }
    if layers[layer].mustBeShortened { try shorten(layer) }
    let (keys, values) = (Self.rows(of: keys), Self.rows(of: values))
    do throws(KVError) {
      try sequence.append(keys: keys.span, values: values.span, layer: layer)
    } catch {
      throw .sequence(error)
    }
    layers[layer].append(expected[2])
    // One that came back among rows that are no state would keep these from being replaced by one.
    if !isState { keepOut { $0 == .elsewhere } }
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
      let numbers = shape.kvHeads * shape.headDim
      let kept = layers[layer].firstRows(count)
      func array(_ rows: [Float]) -> MLXArray {
        let rows = kept.flatMap { rows[($0.lowerBound * numbers)..<($0.upperBound * numbers)] }
        return MLXArray(rows, [1, count, shape.kvHeads, shape.headDim])
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
    layers[layer].count = count
    waiting[layer] = nil
    callBack()
  }

  /// Counts a layer as empty that goes on elsewhere; the others need not wait for it.
  func leave(layer: Int) {
    layers[layer].place = .elsewhere
    layers[layer].mustWait = true
    lastFork = nil
    trim(layer: layer, to: 0)
  }

  /// Counts a layer as empty that begins anew.
  func empty(layer: Int) {
    if layers[layer].place == .elsewhere { layers[layer].place = .nowhere }
    trim(layer: layer, to: 0)
  }

  /// Has a layer that has left called when all others are empty.
  func wait(layer: Int, _ comeBack: @escaping () -> Void) {
    waiting[layer] = comeBack
  }

  func isWaiting(layer: Int) -> Bool { waiting[layer] != nil }

  private func callBack() {
    guard !waiting.isEmpty, counts.allSatisfy({ $0 == 0 }) else { return }
    let called = waiting.values
    waiting = [:]
    for comeBack in called { comeBack() }
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

  /// Brings a layer in the sequence to its count, and with it all others, which have no more tokens.
  private func shorten(_ layer: Int) throws(PackedCacheError) {
    let count = layers[layer].count
    if layers.contains(where: { $0.place != .here && $0.held < count }) {
      layers[layer].forget(from: count)
      // Their rows would move the sequence's end behind what is left out.
      keepOut { $0 != .here }
      return
    }
    if let longer = counts.firstIndex(where: { $0 > count }) {
      throw .trimmedAlone(tokens: count, otherLayer: longer, otherTokens: counts[longer])
    }
    try truncate(to: count)
  }

  /// Has layers wait for an empty sequence.
  private func keepOut(_ places: (Layer.Place) -> Bool) {
    for index in layers.indices where places(layers[index].place) { layers[index].mustWait = true }
  }

  private func truncate(to count: Int) throws(PackedCacheError) {
    do throws(KVError) {
      try sequence.truncate(to: count)
    } catch {
      throw .sequence(error)
    }
    for index in layers.indices { layers[index].truncate(to: count) }
  }

  /// Numbers as NibbleKV takes them: (tokens, kvHeads, headDim).
  private static func rows(of array: MLXArray) -> [Float] {
    array.asType(.float32).transposed(0, 2, 1, 3).asArray(Float.self)
  }
}

/// What is known of one layer in the sequence.
private struct Layer {
  /// Where the tokens that count are.
  enum Place {
    case here
    case elsewhere
    /// The layer was elsewhere, and was emptied.
    case nowhere
  }

  /// Tokens, trimmed ones left out.
  var count: Int
  /// Rows in the sequence.
  private(set) var held: Int
  /// The layer's own among them, in order; the first `count` of these are not trimmed.
  private var kept: [Range<Int>]
  var place = Place.here
  /// Whether the layer may append to an empty sequence only.
  var mustWait = false

  init(count: Int) {
    self.count = count
    held = count
    kept = [0..<count]
  }

  /// Whether something has to be cut off before an append.
  var mustBeShortened: Bool { mustWait || kept.reduce(0) { $0 + $1.count } > count }

  /// Where the first rows lie.
  func firstRows(_ count: Int) -> [Range<Int>] {
    var missing = count
    return kept.map { range in
      let part = range.lowerBound..<min(range.upperBound, range.lowerBound + missing)
      missing -= part.count
      return part
    }
  }

  mutating func append(_ tokens: Int) {
    if let last = kept.last, last.upperBound == held {
      kept[kept.count - 1] = last.lowerBound..<(held + tokens)
    } else {
      kept.append(held..<(held + tokens))
    }
    held += tokens
    count += tokens
    place = .here
  }

  /// Leaves rows out that stay in the sequence.
  mutating func forget(from count: Int) {
    kept = firstRows(count).filter { !$0.isEmpty }
  }

  mutating func truncate(to tokens: Int) {
    held = min(held, tokens)
    kept = kept.map { $0.clamped(to: 0..<held) }.filter { !$0.isEmpty }
    if tokens == 0 { mustWait = false }
  }
}
