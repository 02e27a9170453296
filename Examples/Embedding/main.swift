// A complete inference loop around NibbleKV with a toy model: attention layers with random projections.
// It reads the same tokens with compressed caches and with an exact one, and prints the bytes that each
// holds and how far its outputs lie from the exact ones.
import NibbleKV

/// Random numbers that are the same on every machine (SplitMix64), about normal: mean 0, variance 1.
struct Noise {
  var state: UInt64

  mutating func next() -> Float {
    var sum: Float = 0
    for _ in 0..<4 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var word = (state ^ (state >> 30)) &* 0xbf58_476d_1ce4_e5b9
      word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
      sum += Float((word ^ (word >> 31)) >> 40) / Float(1 << 23) - 1
    }
    return sum * 0.866
  }
}

struct ToyModel {
  let shape = ModelShape(layers: 4, queryHeads: 8, kvHeads: 2, headDim: 64)
  let hidden = 128
  private var weights: [[Float]] = []  // four matrices a layer: queries, keys, values, output

  init() {
    var noise = Noise(state: 1)
    let width = (queries: shape.queryHeads * shape.headDim, keys: shape.kvHeads * shape.headDim)
    let scale = 1 / Float(hidden).squareRoot()
    for _ in 0..<shape.layers {
      for size in [width.queries, width.keys, width.keys, width.queries] {
        weights.append((0..<size * hidden).map { _ in noise.next() * scale })
      }
    }
  }

  /// Runs tokens through all layers; `states` and the result are [tokens, hidden].
  func forward(_ states: [Float], store: some KeyValueStore) throws -> [Float] {
    let tokens = states.count / hidden
    var states = states
    for layer in 0..<shape.layers {
      let queries = project(states, weights[4 * layer], from: hidden)
      let keys = project(states, weights[4 * layer + 1], from: hidden)
      let values = project(states, weights[4 * layer + 2], from: hidden)
      var attended = [Float](repeating: 0, count: queries.count)
      try store.append(keys: keys.span, values: values.span, layer: layer)
      var rows = attended.mutableSpan
      try store.attend(queries: queries.span, layer: layer, options: .standard, into: &rows)
      let update = project(attended, weights[4 * layer + 3], from: attended.count / tokens)
      for i in states.indices { states[i] += update[i] }
    }
    return states
  }

  /// rows [n, inputs] times a matrix [outputs, inputs], transposed.
  private func project(_ rows: [Float], _ matrix: [Float], from inputs: Int) -> [Float] {
    let outputs = matrix.count / inputs
    var result = [Float](repeating: 0, count: rows.count / inputs * outputs)
    for i in result.indices {
      let (row, output) = (i / outputs * inputs, i % outputs * inputs)
      for k in 0..<inputs { result[i] += rows[row + k] * matrix[output + k] }
    }
    return result
  }
}

let model = ToyModel()
var noise = Noise(state: 2)
let (prompt, generated) = (512, 64)
let tokens = (0..<(prompt + generated) * model.hidden).map { _ in noise.next() }

/// A prompt in chunks of 128 tokens, then one token at a time; returns the states of the latter.
func run(_ store: some KeyValueStore) throws -> [Float] {
  var last: [Float] = []
  let steps = Array(repeating: 128, count: prompt / 128) + Array(repeating: 1, count: generated)
  for step in steps {
    let first = store.tokenCount * model.hidden
    let states = try model.forward(Array(tokens[first..<first + step * model.hidden]), store: store)
    if step == 1 { last += states }
  }
  return last
}

let exact = try run(ReferenceCache(shape: model.shape))
for policy in [Policy.exact, .conservative, .balanced, .small] {
  let sequence = try KVCache(model: model.shape, policy: policy).makeSequence()
  let states = try run(sequence)
  let difference = zip(states, exact).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  let error = (difference / exact.reduce(0) { $0 + $1 * $1 }).squareRoot()
  let held = sequence.statistics
  print(
    "\(policy.name ?? "policy"): \(held.totalBytes) bytes, float16 \(held.exactBytes),",
    terminator: " "
  )
  print("\(held.compressedTokens) of \(held.tokens) tokens compressed, relative error \(error)")
}
