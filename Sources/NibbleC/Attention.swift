import NibbleKV

/// Causal attention of the newest tokens of one layer.
@c(nibble_sequence_attend)
public func nibbleSequenceAttend(
  _ sequence: OpaquePointer?,
  _ layer: UInt32,
  _ tokens: UInt64,
  _ queries: UnsafePointer<Float>?,
  _ scale: Float,
  _ window: UInt64,
  _ softCap: Float,
  _ output: UnsafeMutablePointer<Float>?
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let elements = try queryCount(tokens: tokens, shape: sequence.shape)
    let queries = UnsafeBufferPointer(start: try required(queries, "queries"), count: elements)
    let output = UnsafeMutableBufferPointer(start: try required(output, "output"), count: elements)
    var rows = output.mutableSpan
    try sequence.attend(
      queries: queries.span,
      layer: Int(layer),
      options: AttentionOptions(scale: scale, window: window, softCap: softCap),
      into: &rows
    )
  }
}

/// Causal attention of the newest tokens of one layer of several sequences.
@c(nibble_cache_attend)
public func nibbleCacheAttend(
  _ cache: OpaquePointer?,
  _ count: UInt64,
  _ sequences: UnsafePointer<OpaquePointer?>?,
  _ layer: UInt32,
  _ tokens: UInt64,
  _ queries: UnsafePointer<Float>?,
  _ scale: Float,
  _ window: UInt64,
  _ softCap: Float,
  _ output: UnsafeMutablePointer<Float>?
) -> Int32 {
  reporting {
    let cache = try object(cache, as: KVCache.self, "cache")
    guard (1...UInt64(ModelShape.tokenLimit)).contains(count) else {
      throw CallError(description: "count is \(count); expected 1 to \(ModelShape.tokenLimit)")
    }
    let handles = UnsafeBufferPointer(
      start: try required(sequences, "sequences"),
      count: Int(count)
    )
    let sequences = try handles.enumerated().map { index, handle in
      try object(handle, as: KVSequence.self, "sequences[\(index)]")
    }
    let (all, overflow) = tokens.multipliedReportingOverflow(by: count)
    guard !overflow else {
      throw CallError(description: "tokens is \(tokens) for each of \(count) sequences; too many")
    }
    let elements = try queryCount(tokens: all, shape: cache.shape)
    let queries = UnsafeBufferPointer(start: try required(queries, "queries"), count: elements)
    let output = UnsafeMutableBufferPointer(start: try required(output, "output"), count: elements)
    var rows = output.mutableSpan
    try cache.attend(
      sequences,
      queries: queries.span,
      layer: Int(layer),
      options: AttentionOptions(scale: scale, window: window, softCap: softCap),
      into: &rows
    )
  }
}

/// Elements of the queries, and of the output, of so many tokens.
private func queryCount(tokens: UInt64, shape: ModelShape) throws(CallError) -> Int {
  try elementCount(
    tokens: count(tokens, "tokens"),
    heads: shape.queryHeads,
    headDim: shape.headDim
  )
}

extension AttentionOptions {
  /// Options as C has them, where 0 is what stands for itself.
  fileprivate init(scale: Float, window: UInt64, softCap: Float) throws(CallError) {
    self.init(
      scale: scale == 0 ? nil : scale,
      window: window == 0 ? nil : try count(window, "window"),
      softCap: softCap == 0 ? nil : softCap
    )
  }
}
