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
    let (sequence, keys, values) = try newRows(of: Float.self, sequence, tokens, keys, values)
    try sequence.append(keys: keys.span, values: values.span, layer: Int(layer))
  }
}

/// Appends rows of keys and values in one of three number formats to one layer.
@c(nibble_sequence_append_rows)
public func nibbleSequenceAppendRows(
  _ sequence: OpaquePointer?,
  _ layer: UInt32,
  _ tokens: UInt64,
  _ format: Int32,
  _ keys: UnsafeRawPointer?,
  _ values: UnsafeRawPointer?
) -> Int32 {
  reporting {
    switch RowFormat(rawValue: format) {
    case .float32:
      let (sequence, keys, values) = try newRows(of: Float.self, sequence, tokens, keys, values)
      try sequence.append(keys: keys.span, values: values.span, layer: Int(layer))
    case .float16:
      #if os(macOS) && arch(x86_64)
      throw CallError(description: "format is 1, float16, which this platform does not have")
      #else
      let (sequence, keys, values) = try newRows(of: Float16.self, sequence, tokens, keys, values)
      try sequence.append(keys: keys.span, values: values.span, layer: Int(layer))
      #endif
    case .bfloat16:
      let (sequence, keys, values) = try newRows(of: BFloat16.self, sequence, tokens, keys, values)
      try sequence.append(keys: keys.span, values: values.span, layer: Int(layer))
    case nil:
      throw CallError(description: "format is \(format); expected 0 to 2")
    }
  }
}

/// The number formats of `nibble_sequence_append_rows`.
private enum RowFormat: Int32 {
  case float32 = 0
  case float16 = 1
  case bfloat16 = 2
}

/// The sequence that rows are appended to, and the rows, `[tokens, kvHeads, headDim]` each.
private func newRows<Element: KVElement>(
  of element: Element.Type,
  _ sequence: OpaquePointer?,
  _ tokens: UInt64,
  _ keys: UnsafeRawPointer?,
  _ values: UnsafeRawPointer?
) throws(CallError) -> (KVSequence, UnsafeBufferPointer<Element>, UnsafeBufferPointer<Element>) {
  let sequence = try object(sequence, as: KVSequence.self, "sequence")
  let elements = try elementCount(
    tokens: count(tokens, "tokens"),
    heads: sequence.shape.kvHeads,
    headDim: sequence.shape.headDim
  )
  let keys = try required(keys, "keys").assumingMemoryBound(to: Element.self)
  let values = try required(values, "values").assumingMemoryBound(to: Element.self)
  return (
    sequence, UnsafeBufferPointer(start: keys, count: elements),
    UnsafeBufferPointer(start: values, count: elements)
  )
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
