internal import CNibble
import NibblePolicy

/// What must hold of rows before anything is appended.
enum AppendCheck {
  /// Throws unless the rows fit the shape and hold finite values up to `limit`.
  ///
  /// - Returns: The number of new tokens.
  @discardableResult
  static func check(
    keys: Span<Float>,
    values: Span<Float>,
    layer: Int,
    shape: ModelShape,
    limit: Float
  ) throws(KVError) -> Int {
    let tokens = try tokenCount(keys: keys.count, values: values.count, layer: layer, shape: shape)
    try check(keys, what: "key", layer: layer, shape: shape, limit: limit)
    try check(values, what: "value", layer: layer, shape: shape, limit: limit)
    return tokens
  }

  static func tokenCount(
    keys: Int,
    values: Int,
    layer: Int,
    shape: ModelShape
  ) throws(KVError) -> Int {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    guard keys == values else { throw .unequalLengths(keys: keys, values: values) }
    let row = shape.kvHeads * shape.headDim
    guard keys % row == 0 else {
      throw .wrongLength(what: "keys", count: keys, expected: "a multiple of \(row)")
    }
    return keys / row
  }

  private static func check(
    _ rows: Span<Float>,
    what: String,
    layer: Int,
    shape: ModelShape,
    limit: Float
  ) throws(KVError) {
    let finite = min(limit, .greatestFiniteMagnitude)
    let index = rows.withUnsafeBufferPointer {
      nibble_first_outside($0.baseAddress, $0.count, finite)
    }
    guard index >= 0 else { return }
    let row = shape.kvHeads * shape.headDim
    throw .valueOutOfRange(
      what: what,
      layer: layer,
      token: index / row,
      head: index % row / shape.headDim,
      channel: index % shape.headDim,
      value: rows[index],
      limit: finite
    )
  }
}

/// What must hold before attention runs.
enum AttendCheck {
  /// Throws unless queries, output and options fit; `sequence` is which of several the queries are for.
  ///
  /// - Returns: The number of query tokens.
  @discardableResult
  static func check(
    queries: UnsafeBufferPointer<Float>,
    output: Int,
    layer: Int,
    tokens: Int,
    shape: ModelShape,
    options: AttentionOptions,
    sequence: Int? = nil
  ) throws(KVError) -> Int {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    let row = shape.queryHeads * shape.headDim
    guard queries.count % row == 0 else {
      throw .wrongLength(what: "queries", count: queries.count, expected: "a multiple of \(row)")
    }
    guard output == queries.count else {
      throw .wrongLength(what: "output", count: output, expected: "\(queries.count)")
    }
    guard queries.count / row <= tokens else {
      throw .tooManyQueries(queries: queries.count / row, tokens: tokens)
    }
    let limit = Float.greatestFiniteMagnitude
    let wrong = nibble_first_outside(queries.baseAddress, queries.count, limit)
    guard wrong < 0 else {
      throw .valueOutOfRange(
        what: "query" + (sequence.map { " of sequence \($0)" } ?? ""),
        layer: layer,
        token: wrong / row,
        head: wrong % row / shape.headDim,
        channel: wrong % shape.headDim,
        value: queries[wrong],
        limit: limit
      )
    }
    if let scale = options.scale, !(scale.isFinite && scale > 0) {
      throw .invalidOption(name: "scale", value: "\(scale)", expected: "a positive number")
    }
    if let window = options.window, window < 1 {
      throw .invalidOption(name: "window", value: "\(window)", expected: "at least 1")
    }
    if let cap = options.softCap, !(cap.isFinite && cap > 0) {
      throw .invalidOption(name: "soft cap", value: "\(cap)", expected: "a positive number")
    }
    return queries.count / row
  }
}
