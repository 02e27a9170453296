import NibbleKV

/// What attention over a cache loses against double precision over the decoded pages.
enum AttentionError {
  /// Tokens of a context that double precision can be computed over in a moment.
  static func mostTokens(of shape: ModelShape) -> Int {
    min(4_096, mostValues / (shape.kvHeads * shape.headDim))
  }

  private static let mostValues = 1 << 24

  /// Compares some rows of an output.
  ///
  /// - Parameters:
  ///   - output: What `attend` returned for `queries`.
  ///   - queries: Shape (tokens, queryHeads, headDim), of the layer's newest tokens.
  ///   - rows: Which of these tokens.
  ///   - sequence: The sequence as it was when it attended.
  ///   - layer: The layer.
  /// - Returns: Norm of the difference over the norm of the exact rows.
  /// - Throws: `KVError`.
  /// - Complexity: O(rows · tokens of the layer · queryHeads · headDim), slow.
  static func relative(
    _ output: [Float],
    queries: [Float],
    rows: [Int],
    in sequence: KVSequence,
    layer: Int
  ) throws(KVError) -> Double {
    let shape = sequence.shape
    let rowLength = shape.queryHeads * shape.headDim
    let tokenLength = shape.kvHeads * shape.headDim
    let decoded = try sequence.decodedRows(layer: layer)
    let before = decoded.keys.count / tokenLength - queries.count / rowLength
    var difference = 0.0
    var norm = 0.0
    for row in rows {
      let range = row * rowLength..<(row + 1) * rowLength
      let visible = (before + row + 1) * tokenLength
      let exact = ReferenceAttention.attend(
        queries: Array(queries[range]),
        keys: Array(decoded.keys[..<visible]),
        values: Array(decoded.values[..<visible]),
        shape: shape
      )
      for (value, truth) in zip(output[range], exact) {
        difference += (Double(value) - truth) * (Double(value) - truth)
        norm += truth * truth
      }
    }
    return norm > 0 ? (difference / norm).squareRoot() : 0
  }
}
