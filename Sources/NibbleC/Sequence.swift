import NibbleKV

/// Makes an empty sequence.
@c(nibble_sequence_create)
public func nibbleSequenceCreate(
  _ cache: OpaquePointer?,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  reporting {
    let result = try required(result, "sequence")
    let cache = try object(cache, as: KVCache.self, "cache")
    result.pointee = makeHandle(cache.makeSequence())
  }
}

/// Makes a copy that shares the sealed pages.
@c(nibble_sequence_fork)
public func nibbleSequenceFork(
  _ sequence: OpaquePointer?,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  reporting {
    let result = try required(result, "branch")
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    result.pointee = makeHandle(sequence.fork())
  }
}

/// Frees the handle of a sequence.
@c(nibble_sequence_free)
public func nibbleSequenceFree(_ sequence: OpaquePointer?) {
  freeHandle(sequence, as: KVSequence.self)
}

/// Appends float32 rows of keys and values to one layer.
@c(nibble_sequence_append)
public func nibbleSequenceAppend(
  _ sequence: OpaquePointer?,
  _ layer: UInt32,
  _ tokens: UInt64,
  _ keys: UnsafePointer<Float>?,
  _ values: UnsafePointer<Float>?
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let elements = try elementCount(
      tokens: count(tokens, "tokens"),
      heads: sequence.shape.kvHeads,
      headDim: sequence.shape.headDim
    )
    let keys = UnsafeBufferPointer(start: try required(keys, "keys"), count: elements)
    let values = UnsafeBufferPointer(start: try required(values, "values"), count: elements)
    try sequence.append(keys: keys.span, values: values.span, layer: Int(layer))
  }
}

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
    let elements = try elementCount(
      tokens: count(tokens, "tokens"),
      heads: sequence.shape.queryHeads,
      headDim: sequence.shape.headDim
    )
    let queries = UnsafeBufferPointer(start: try required(queries, "queries"), count: elements)
    let output = UnsafeMutableBufferPointer(start: try required(output, "output"), count: elements)
    var rows = output.mutableSpan
    try sequence.attend(
      queries: queries.span,
      layer: Int(layer),
      options: AttentionOptions(
        scale: scale == 0 ? nil : scale,
        window: window == 0 ? nil : try count(window, "window"),
        softCap: softCap == 0 ? nil : softCap
      ),
      into: &rows
    )
  }
}

/// Decodes the first tokens of one layer.
@c(nibble_sequence_get_rows)
public func nibbleSequenceGetRows(
  _ sequence: OpaquePointer?,
  _ layer: UInt32,
  _ tokens: UInt64,
  _ keys: UnsafeMutablePointer<Float>?,
  _ values: UnsafeMutablePointer<Float>?
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let keys = try required(keys, "keys")
    let values = try required(values, "values")
    let rows = try sequence.decodedRows(layer: Int(layer))
    let rowLength = sequence.shape.kvHeads * sequence.shape.headDim
    let held = rows.keys.count / rowLength
    guard tokens <= held else {
      throw CallError(description: "tokens is \(tokens), but layer \(layer) has \(held)")
    }
    keys.update(from: rows.keys, count: Int(tokens) * rowLength)
    values.update(from: rows.values, count: Int(tokens) * rowLength)
  }
}

/// Drops the tokens after the first `tokens`.
@c(nibble_sequence_truncate)
public func nibbleSequenceTruncate(_ sequence: OpaquePointer?, _ tokens: UInt64) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    try sequence.truncate(to: count(tokens, "tokens"))
  }
}

/// Fills a `nibble_sequence_statistics`.
@c(nibble_sequence_get_statistics)
public func nibbleSequenceGetStatistics(
  _ sequence: OpaquePointer?,
  _ structure: UnsafeMutableRawPointer?,
  _ structBytes: UInt64
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let structure = try required(structure, "statistics")
    let statistics = sequence.statistics
    let fields = [
      UInt64(statistics.tokens),
      UInt64(statistics.compressedTokens),
      UInt64(statistics.pageBytes),
      UInt64(statistics.tailBytes),
      UInt64(statistics.sinkBytes),
      UInt64(statistics.totalBytes),
      UInt64(statistics.exactBytes),
      statistics.bitsPerValue.bitPattern,
      UInt64(statistics.storedPages),
    ]
    write(fields, to: structure, byteCount: structBytes)
  }
}
