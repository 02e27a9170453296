import NibbleKV

/// Repeatable random numbers (SplitMix64).
struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A value close to the standard normal: twelve uniform ones.
  mutating func normal() -> Float {
    (0..<12).reduce(Float(-6)) { sum, _ in sum + Float.random(in: 0..<1, using: &self) }
  }

  mutating func normals(_ count: Int, mean: Float = 0) -> [Float] {
    (0..<count).map { _ in mean + normal() }
  }
}

/// ‖a - b‖ / ‖b‖.
func relativeError(_ a: [Float], _ b: [Double]) -> Double {
  precondition(a.count == b.count)
  let difference = zip(a, b).reduce(0.0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
  let norm = b.reduce(0.0) { $0 + $1 * $1 }
  return norm > 0 ? (difference / norm).squareRoot() : difference.squareRoot()
}

/// A sequence filled with random rows, and the queries to ask it.
struct Filled {
  let cache: KVCache
  let sequence: KVSequence

  init(
    shape: ModelShape,
    policy: Policy,
    tokens: Int,
    chunk: Int = 100,
    seed: UInt64 = 1,
    threads: Int = 1,
    mean: Float = 0,
    catalogue: CodecCatalogue = .standard
  ) throws {
    cache = try KVCache(model: shape, policy: policy, threads: threads, catalogue: catalogue)
    sequence = cache.makeSequence()
    var random = SeededRandom(seed)
    var left = tokens
    while left > 0 {
      let count = min(chunk, left)
      for layer in 0..<shape.layers {
        let keys = random.normals(count * shape.kvHeads * shape.headDim, mean: mean)
        let values = random.normals(count * shape.kvHeads * shape.headDim, mean: mean)
        try sequence.append(keys: keys.span, values: values.span, layer: layer)
      }
      left -= count
    }
  }

  func attend(
    _ queries: [Float],
    layer: Int = 0,
    options: AttentionOptions = .standard
  ) throws -> [Float] {
    var output = [Float](repeating: .nan, count: queries.count)
    var span = output.mutableSpan
    try sequence.attend(queries: queries.span, layer: layer, options: options, into: &span)
    return output
  }

  /// The textbook's answer over the rows that the pages decode to.
  func reference(
    _ queries: [Float],
    layer: Int = 0,
    options: AttentionOptions = .standard
  ) throws -> [Double] {
    let rows = try sequence.decodedRows(layer: layer)
    return ReferenceAttention.attend(
      queries: queries,
      keys: rows.keys,
      values: rows.values,
      shape: sequence.shape,
      options: options
    )
  }
}

/// Rows of one layer, to be appended in any portions.
struct TokenRows {
  let keys: [Float]
  let values: [Float]
  private let rowLength: Int

  init(_ tokens: Int, shape: ModelShape, seed: UInt64, mean: Float = 0) {
    var random = SeededRandom(seed)
    rowLength = shape.kvHeads * shape.headDim
    keys = random.normals(tokens * rowLength, mean: mean)
    values = random.normals(tokens * rowLength, mean: mean)
  }

  init(keys: [Float], values: [Float], rowLength: Int) {
    self.keys = keys
    self.values = values
    self.rowLength = rowLength
  }

  var count: Int { keys.count / rowLength }

  func append(_ tokens: Range<Int>, to store: some KeyValueStore, layer: Int = 0) throws(KVError) {
    let range = tokens.lowerBound * rowLength..<tokens.upperBound * rowLength
    let newKeys = Array(keys[range])
    let newValues = Array(values[range])
    try store.append(keys: newKeys.span, values: newValues.span, layer: layer)
  }

  /// Appends `tokens` in portions of `chunk`.
  func append(
    _ tokens: Range<Int>,
    by chunk: Int,
    to store: some KeyValueStore,
    layer: Int = 0
  ) throws(KVError) {
    for first in stride(from: tokens.lowerBound, to: tokens.upperBound, by: chunk) {
      try append(first..<min(tokens.upperBound, first + chunk), to: store, layer: layer)
    }
  }
}

extension KeyValueStore {
  /// Attention as an array.
  func attended(
    _ queries: [Float],
    layer: Int = 0,
    options: AttentionOptions = .standard
  ) throws(KVError) -> [Float] {
    var output = [Float](repeating: .nan, count: queries.count)
    var span = output.mutableSpan
    try attend(queries: queries.span, layer: layer, options: options, into: &span)
    return output
  }
}

/// Queries of `tokens` tokens.
func randomQueries(_ tokens: Int = 1, shape: ModelShape, seed: UInt64 = 77) -> [Float] {
  var random = SeededRandom(seed)
  return random.normals(tokens * shape.queryHeads * shape.headDim)
}
