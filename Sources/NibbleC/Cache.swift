import NibbleKV

// The functions of Integrations/C/include/nibblekv.h, which documents them for callers in C.

/// The version of the interface that this library has.
@c(nibble_abi_version)
public func nibbleABIVersion() -> UInt32 { 1 }

/// What was wrong with the last failed call of this thread.
@c(nibble_last_error)
public func nibbleLastError() -> UnsafePointer<CChar> { LastMessage.pointer }

/// Makes an empty cache; `shape` points to layers, query heads, KV heads and head dimension.
@c(nibble_cache_create)
public func nibbleCacheCreate(
  _ shape: UnsafePointer<UInt32>?,
  _ policy: UnsafePointer<CChar>?,
  _ byteBudget: UInt64,
  _ threads: UInt32,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  reporting {
    let result = try required(result, "cache")
    let cache = try KVCache(
      model: readShape(try required(shape, "shape")),
      policy: readPolicy(policy.map { String(cString: $0) }),
      budget: byteBudget == 0 ? .unlimited : .bytes(try count(byteBudget, "byte_budget")),
      threads: threads == 0 ? nil : Int(threads)
    )
    result.pointee = makeHandle(cache)
  }
}

private func readShape(_ fields: UnsafePointer<UInt32>) throws(CallError) -> ModelShape {
  let shape = ModelShape(
    layers: Int(fields[0]),
    queryHeads: Int(fields[1]),
    kvHeads: Int(fields[2]),
    headDim: Int(fields[3])
  )
  do {
    try shape.validate()
  } catch {
    throw CallError(description: String(describing: error))
  }
  return shape
}

private func readPolicy(_ text: String?) throws -> Policy {
  guard let text else { return .balanced }
  let isDocument = text.contains(where: \.isNewline) || text.hasPrefix("{")
  return isDocument ? try Policy(yaml: text) : try Policy(argument: text)
}

/// Frees the handle of a cache.
@c(nibble_cache_free)
public func nibbleCacheFree(_ cache: OpaquePointer?) {
  freeHandle(cache, as: KVCache.self)
}

/// Fills a `nibble_cache_statistics`.
@c(nibble_cache_get_statistics)
public func nibbleCacheGetStatistics(
  _ cache: OpaquePointer?,
  _ structure: UnsafeMutableRawPointer?,
  _ structBytes: UInt64
) -> Int32 {
  reporting {
    let cache = try object(cache, as: KVCache.self, "cache")
    let structure = try required(structure, "statistics")
    let statistics = cache.statistics
    let fields = [
      UInt64(statistics.heldBytes),
      UInt64(statistics.pageCount),
      UInt64(statistics.sequenceCount),
      cache.plan.bitsPerValue.bitPattern,
    ]
    write(fields, to: structure, byteCount: structBytes)
  }
}
