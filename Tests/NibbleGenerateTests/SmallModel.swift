import NibbleGenerate
import NibbleKV
import Synchronization

/// A model whose next token is a fixed function of the last one, and which really uses its store.
///
/// Token t is followed by t + 1; the logits of the others fall with the distance.
final class SmallModel: DecoderModel {
  /// What goes wrong, on request.
  struct Failure: Error, Hashable {}

  let shape = ModelShape(layers: 2, queryHeads: 2, kvHeads: 1, headDim: 8)
  let name = "small"
  let vocabularySize: Int
  /// The number of tokens of each step, and the logits asked for.
  let steps = Mutex<[(count: Int, logits: LogitsRequest)]>([])
  /// Runs before each step; may throw or cancel.
  let beforeStep: @Sendable (Int) throws -> Void
  /// The step that throws between its two layers.
  let failingStep: Int?
  /// Replaces the logits.
  let logits: (@Sendable ([Float]) -> [Float])?

  init(
    vocabularySize: Int = 16,
    failingStep: Int? = nil,
    logits: (@Sendable ([Float]) -> [Float])? = nil,
    beforeStep: @escaping @Sendable (Int) throws -> Void = { _ in }
  ) {
    self.vocabularySize = vocabularySize
    self.failingStep = failingStep
    self.logits = logits
    self.beforeStep = beforeStep
  }

  func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits request: LogitsRequest
  ) throws -> [Float] {
    let step = steps.withLock { steps in
      steps.append((tokens.count, request))
      return steps.count - 1
    }
    try beforeStep(step)
    let rows = tokens.flatMap { [Float](repeating: Float($0) / 16, count: shape.headDim) }
    let queries = tokens.flatMap { [Float](repeating: Float($0) / 16, count: 2 * shape.headDim) }
    for layer in 0..<shape.layers {
      if layer == 1, step == failingStep { throw Failure() }
      try store.append(keys: rows.span, values: rows.span, layer: layer)
      var output = queries
      var span = output.mutableSpan
      try store.attend(queries: queries.span, layer: layer, options: .standard, into: &span)
    }
    switch request {
    case .none: return []
    case .last: return row(after: tokens[tokens.count - 1])
    case .all: return tokens.flatMap(row)
    }
  }

  private func row(after token: Int) -> [Float] {
    let next = (token + 1) % vocabularySize
    let row = (0..<vocabularySize).map { -abs(Float($0 - next)) }
    return logits?(row) ?? row
  }
}

/// Letters for tokens, and some tokens with bytes that are not whole characters.
struct SmallTokenizer: TextTokenizer {
  static let texts: [[UInt8]] =
    "abcdefghijkl".utf8.map { [$0] } + [
      Array("é".utf8.prefix(1)), Array("é".utf8.suffix(1)), [], [],
    ]
  var endTokens: Set<Int> = []

  func encode(_ text: String) -> [Int] {
    text.utf8.map { Int($0) - Int(UInt8(ascii: "a")) }
  }

  func bytes(of id: Int) -> [UInt8] {
    Self.texts.indices.contains(id) ? Self.texts[id] : []
  }
}
