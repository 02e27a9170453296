import NibbleGenerate
import NibbleKV

/// A model of two attention layers with random tables, whose logits depend on everything in its
/// store.
struct TinyModel: DecoderModel {
  let shape = ModelShape(layers: 2, queryHeads: 2, kvHeads: 1, headDim: 16)
  let vocabularySize = 24
  let name = "tiny"
  /// Replaces the logits of this token's position by NaN.
  var brokenToken: Int?

  private let keys: [[Float]]
  private let values: [[Float]]
  private let queries: [[Float]]
  private let output: [[Float]]

  init(seed: UInt64 = 1, brokenToken: Int? = nil) {
    self.brokenToken = brokenToken
    var generator = SplitMix64(seed: seed)
    func table(_ width: Int) -> [[Float]] {
      (0..<24).map { _ in (0..<width).map { _ in Float.random(in: -2...2, using: &generator) } }
    }
    keys = table(16)
    values = table(16)
    queries = table(32)
    output = table(32)
  }

  func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits request: LogitsRequest
  ) throws -> [Float] {
    var attended = tokens.flatMap { queries[$0] }
    for layer in 0..<shape.layers {
      let keyRows = tokens.flatMap { keys[($0 + layer) % vocabularySize] }
      let valueRows = tokens.flatMap { values[($0 + layer) % vocabularySize] }
      try store.append(keys: keyRows.span, values: valueRows.span, layer: layer)
      let queryRows = attended
      var rows = attended.mutableSpan
      try store.attend(queries: queryRows.span, layer: layer, options: .standard, into: &rows)
    }
    let logits = tokens.indices.flatMap { row -> [Float] in
      if tokens[row] == brokenToken { return Array(repeating: .nan, count: vocabularySize) }
      let hidden = attended[row * 32..<(row + 1) * 32]
      return output.map { weights in zip(hidden, weights).reduce(0) { $0 + $1.0 * $1.1 } }
    }
    switch request {
    case .all: return logits
    case .last: return Array(logits.suffix(vocabularySize))
    case .none: return []
    }
  }

  /// Random tokens, the same for a seed.
  static func document(_ count: Int, seed: UInt64) -> [Int] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int.random(in: 0..<24, using: &generator) }
  }
}
