import Foundation
import NibbleKV
import Synchronization

/// An exact store that carries caches with other policies along: each gets the same keys, values and queries, so that what it
/// loses in one layer does not reach the next.
final class AttentionProbe: KeyValueStore {
  let exact: KVSequence
  let others: [KVSequence]
  private let state: Mutex<State>

  private struct State {
    /// Of each other cache.
    var tallies: [AttentionTally]
    /// The newest queries of each layer, and how they attend.
    var queries: [[Float]]
    var options: [AttentionOptions]
    /// Tokens of each layer.
    var tokens: [Int]
  }

  init(exact: KVCache, others: [KVCache]) {
    self.exact = exact.makeSequence()
    self.others = others.map { $0.makeSequence() }
    let layers = exact.plan.shape.layers
    state = Mutex(
      State(
        tallies: others.map { _ in AttentionTally(shape: exact.plan.shape) },
        queries: Array(repeating: [], count: layers),
        options: Array(repeating: .standard, count: layers),
        tokens: Array(repeating: 0, count: layers)
      )
    )
  }

  var shape: ModelShape { exact.shape }
  var tokenCount: Int { exact.tokenCount }

  func append(keys: Span<Float>, values: Span<Float>, layer: Int) throws(KVError) {
    try exact.append(keys: keys, values: values, layer: layer)
    for other in others { try other.append(keys: keys, values: values, layer: layer) }
    let count = keys.count / (shape.kvHeads * shape.headDim)
    state.withLock { $0.tokens[layer] += count }
  }

  func attend(
    queries: Span<Float>,
    layer: Int,
    options: AttentionOptions,
    into output: inout MutableSpan<Float>
  ) throws(KVError) {
    try exact.attend(queries: queries, layer: layer, options: options, into: &output)
    let count = queries.count / (shape.queryHeads * shape.headDim)
    let first = state.withLock { $0.tokens[layer] } - count
    var attended = [Float](repeating: 0, count: output.count)
    for (index, other) in others.enumerated() where other.statistics.compressedTokens > 0 {
      var target = attended.mutableSpan
      try other.attend(queries: queries, layer: layer, options: options, into: &target)
      let heads = errors(of: attended.span, truth: output.span)
      state.withLock { $0.tallies[index].add(heads, layer: layer, position: first) }
    }
    let newest = queries.withUnsafeBufferPointer { Array($0) }
    state.withLock {
      $0.queries[layer] = newest
      $0.options[layer] = options
    }
  }

  /// What the query heads of each KV head lost.
  private func errors(of attended: Span<Float>, truth: Span<Float>) -> [ErrorSum] {
    var heads = Array(repeating: ErrorSum(), count: shape.kvHeads)
    let width = shape.queryHeads / shape.kvHeads * shape.headDim
    for channel in attended.indices {
      let value = Double(truth[channel])
      let difference = Double(attended[channel]) - value
      heads[channel / width % shape.kvHeads].add(
        error: difference * difference,
        power: value * value
      )
    }
    return heads
  }

  func truncate(to tokenCount: Int) throws(KVError) {
    try exact.truncate(to: tokenCount)
    for other in others { try other.truncate(to: tokenCount) }
    state.withLock { state in
      for layer in state.tokens.indices {
        state.tokens[layer] = min(state.tokens[layer], tokenCount)
      }
    }
  }

  /// Compares rows and softmax weights at the end of a document.
  ///
  /// - Returns: What was gathered, one for each of the other caches.
  func finish() throws(KVError) -> [AttentionTally] {
    var tallies = state.withLock { $0.tallies }
    for layer in 0..<shape.layers {
      let truth = try exact.decodedRows(layer: layer)
      let (queries, options) = state.withLock { ($0.queries[layer], $0.options[layer]) }
      let softmax = SoftmaxSample(queries: queries, shape: shape, options: options)
      let weights = softmax.logWeights(keys: truth.keys)
      for (index, other) in others.enumerated() {
        let compressed = compressedValues(of: other)
        guard !compressed.isEmpty else { continue }
        if layer == 0 { tallies[index].compressedTokens += other.statistics.compressedTokens }
        let rows = try other.decodedRows(layer: layer)
        tallies[index].keys.add(rows.keys, truth: truth.keys, in: compressed)
        tallies[index].values.add(rows.values, truth: truth.values, in: compressed)
        let divergences = SoftmaxSample.divergences(weights, softmax.logWeights(keys: rows.keys))
        tallies[index].divergence += divergences.reduce(0, +)
        tallies[index].weightRows += divergences.count
      }
    }
    return tallies
  }

  /// Indices of the rows' values that lie in compressed pages.
  private func compressedValues(of sequence: KVSequence) -> Range<Int> {
    let width = shape.kvHeads * shape.headDim
    let first = sequence.cache.plan.policy.sinks
    return first * width..<(first + sequence.statistics.compressedTokens) * width
  }
}

/// A squared error relative to what it is an error of.
struct ErrorSum: Sendable {
  var error = 0.0
  var power = 0.0

  mutating func add(error: Double, power: Double) {
    self.error += error
    self.power += power
  }

  mutating func add(_ rows: [Float], truth: [Float], in range: Range<Int>) {
    for index in range {
      let difference = Double(rows[index]) - Double(truth[index])
      error += difference * difference
      power += Double(truth[index]) * Double(truth[index])
    }
  }

  mutating func add(_ other: ErrorSum) { add(error: other.error, power: other.power) }

  var relative: Double? { power > 0 ? error / power : nil }
}

/// What one cache lost.
struct AttentionTally: Sendable {
  var keys = ErrorSum()
  var values = ErrorSum()
  /// By the first position of the queries that attended.
  var attention: [Int: ErrorSum] = [:]
  /// By layer and KV head: what its query heads lost.
  var heads: [[ErrorSum]]
  /// Sum of KL(exact ‖ compressed) over rows of softmax weights.
  var divergence = 0.0
  var weightRows = 0
  /// Tokens in compressed pages at the end of their document.
  var compressedTokens = 0

  init(shape: ModelShape) {
    heads = Array(
      repeating: Array(repeating: ErrorSum(), count: shape.kvHeads),
      count: shape.layers
    )
  }

  /// ‖attention − exact‖ / ‖exact‖ over all positions.
  var attentionError: Double? {
    var sum = ErrorSum()
    for (_, part) in attention.sorted(by: { $0.key < $1.key }) { sum.add(part) }
    return sum.relative?.squareRoot()
  }

  /// The squared error of some KV heads of a layer over the power of the whole layer, divided by the number of layers, so that
  /// all heads of all layers add up to the mean over layers.
  func error(layer: Int, heads selected: Range<Int>) -> Double {
    let power = heads[layer].reduce(0) { $0 + $1.power }
    let error = heads[layer][selected].reduce(0) { $0 + $1.error }
    return power > 0 ? error / power / Double(heads.count) : 0
  }

  /// Adds the errors of each KV head in one layer.
  mutating func add(_ errors: [ErrorSum], layer: Int, position: Int) {
    for (head, error) in errors.enumerated() {
      heads[layer][head].add(error)
      attention[position, default: ErrorSum()].add(error)
    }
  }

  mutating func add(_ other: AttentionTally) {
    for layer in heads.indices {
      for head in heads[layer].indices { heads[layer][head].add(other.heads[layer][head]) }
    }
    compressedTokens += other.compressedTokens
    keys.add(other.keys)
    values.add(other.values)
    attention.merge(other.attention) { own, other in
      var sum = own
      sum.add(other)
      return sum
    }
    divergence += other.divergence
    weightRows += other.weightRows
  }
}

/// Softmax weights of some of the newest queries.
private struct SoftmaxSample {
  let queries: [Float]
  let shape: ModelShape
  let options: AttentionOptions

  private static let tokens = 8

  /// Logarithms of the weights, a row for each sampled token and query head.
  func logWeights(keys: [Float]) -> [[Double]] {
    let count = queries.count / (shape.queryHeads * shape.headDim)
    let step = max(1, count / Self.tokens)
    let total = keys.count / (shape.kvHeads * shape.headDim)
    return stride(from: count - 1, through: 0, by: -step).flatMap { token in
      (0..<shape.queryHeads).map { head in
        logWeights(token: token, head: head, position: total - count + token, keys: keys)
      }
    }
  }

  private func logWeights(token: Int, head: Int, position: Int, keys: [Float]) -> [Double] {
    let dim = shape.headDim
    let query = queries[
      (token * shape.queryHeads + head) * dim..<(token * shape.queryHeads + head + 1) * dim
    ]
    let group = shape.queryHeads / shape.kvHeads
    let scale = options.scale.map(Double.init) ?? 1 / Double(dim).squareRoot()
    let first = options.window.map { max(0, position - $0 + 1) } ?? 0
    let scores = (first...position).map { token -> Double in
      let start = (token * shape.kvHeads + head / group) * dim
      let score = Double(dot(query, keys[start..<start + dim])) * scale
      return options.softCap.map { Double($0) * tanh(score / Double($0)) } ?? score
    }
    let top = scores.max() ?? 0
    let normalizer = top + log(scores.reduce(0) { $0 + exp($1 - top) })
    return scores.map { $0 - normalizer }
  }

  static func divergences(_ exact: [[Double]], _ other: [[Double]]) -> [Double] {
    zip(exact, other).map { exact, other in
      // Rounding may leave a crumb below zero, which the divergence never is.
      max(0, zip(exact, other).reduce(0) { $0 + exp($1.0) * ($1.0 - $1.1) })
    }
  }
}

private func dot(_ a: ArraySlice<Float>, _ b: ArraySlice<Float>) -> Float {
  a.withUnsafeBufferPointer { a in
    b.withUnsafeBufferPointer { b in
      var lanes = SIMD8<Float>.zero
      for start in stride(from: 0, to: a.count, by: 8) {
        for lane in 0..<8 { lanes[lane] += a[start + lane] * b[start + lane] }
      }
      return lanes.sum()
    }
  }
}
