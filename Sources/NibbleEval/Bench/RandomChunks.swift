import NibbleKV

/// Random keys and values in a few different chunks that are appended in turn.
struct RandomChunks {
  /// Values that the keys of one chunk may have.
  static let mostValues = 1 << 27

  /// Tokens of a chunk.
  let tokens: Int
  private let rowLength: Int
  private let keys: [[Float]]
  private let values: [[Float]]

  /// - Parameters:
  ///   - count: Different chunks.
  ///   - tokens: Tokens of one chunk.
  ///   - shape: The model's shape.
  ///   - seed: The start of the random sequence.
  /// - Throws: ``EvaluationError/invalidOption(name:value:expected:)`` if a chunk is too large.
  init(count: Int, tokens: Int, shape: ModelShape, seed: UInt64) throws(EvaluationError) {
    var random = RandomRows(seed: seed)
    self.tokens = tokens
    rowLength = shape.kvHeads * shape.headDim
    let length = tokens * rowLength
    try check("values of one chunk", length, in: 1...Self.mostValues)
    keys = (0..<count).map { _ in random.normal(length) }
    values = (0..<count).map { _ in random.normal(length) }
  }

  /// Appends tokens to one layer of a sequence.
  ///
  /// - Parameters:
  ///   - sequence: An empty sequence of the shape.
  ///   - layers: The layers to fill; each gets a chunk before the next chunk comes.
  ///   - context: Tokens in all.
  ///   - progress: Told the tokens that are done.
  /// - Throws: `KVError`.
  func fill(
    _ sequence: KVSequence,
    layers: Range<Int>,
    context: Int,
    progress: (Int) -> Void = { _ in }
  ) throws(KVError) {
    var chunk = 0
    for first in stride(from: 0, to: context, by: tokens) {
      for layer in layers {
        try append(chunk, rows: 0..<min(tokens, context - first), to: sequence, layer: layer)
        chunk += 1
      }
      progress(min(first + tokens, context))
    }
  }

  /// Appends tokens of one chunk to one layer.
  ///
  /// - Parameters:
  ///   - chunk: Its number; numbers beyond the last chunk begin anew.
  ///   - rows: Which of its tokens.
  ///   - sequence: A sequence of the shape.
  ///   - layer: The layer.
  /// - Throws: `KVError`.
  func append(
    _ chunk: Int,
    rows: Range<Int>,
    to sequence: KVSequence,
    layer: Int
  ) throws(KVError) {
    let range = rows.lowerBound * rowLength..<rows.upperBound * rowLength
    let keys = keys[chunk % keys.count]
    let values = values[chunk % values.count]
    try sequence.append(
      keys: keys.span.extracting(range),
      values: values.span.extracting(range),
      layer: layer
    )
  }
}
