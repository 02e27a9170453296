import NibbleKV

// The functions of Integrations/C/include/nibblekv.h, which documents them for callers in C.

/// The version of the interface that this library has.
@c(nibble_abi_version)
public func nibbleABIVersion() -> UInt32 { 4 }

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
    var options = CacheOptions()
    options.policy = policy
    options.byteBudget = byteBudget
    options.threads = UInt64(threads)
    try makeCache(shape, options, result)
  }
}

/// Makes an empty cache as a `nibble_cache_options` says.
@c(nibble_cache_create_with_options)
public func nibbleCacheCreateWithOptions(
  _ shape: UnsafePointer<UInt32>?,
  _ options: UnsafeRawPointer?,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  reporting {
    let options = try options.map { try CacheOptions($0) } ?? CacheOptions()
    try makeCache(shape, options, result)
  }
}

private func makeCache(
  _ shape: UnsafePointer<UInt32>?,
  _ options: CacheOptions,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) throws {
  let result = try required(result, "cache")
  result.pointee = makeHandle(try options.cache(shape: required(shape, "shape")))
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
      UInt64(statistics.diskBytes),
      UInt64(statistics.diskPageBytes),
      UInt64(statistics.prefixes.lookups),
      UInt64(statistics.prefixes.hits),
      UInt64(statistics.prefixes.reusedTokens),
      UInt64(statistics.prefixes.sequences),
      UInt64(statistics.prefixes.bytes),
      UInt64(statistics.prefixes.evictions),
      UInt64(cache.plan.policy.pageTokens),
    ]
    write(fields, to: structure, byteCount: structBytes)
  }
}
