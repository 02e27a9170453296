import NibbleKV

/// Says which tokens the newest rows belong to.
@c(nibble_sequence_record_tokens)
public func nibbleSequenceRecordTokens(
  _ sequence: OpaquePointer?,
  _ tokens: UInt64,
  _ ids: UnsafePointer<Int32>?
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let ids = try readIDs(ids, tokens: tokens)
    try sequence.record(tokens: ids.span)
  }
}

/// Writes the ids that are known.
@c(nibble_sequence_get_tokens)
public func nibbleSequenceGetTokens(
  _ sequence: OpaquePointer?,
  _ capacity: UInt64,
  _ ids: UnsafeMutablePointer<Int32>?,
  _ known: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let known = try required(known, "known")
    let tokens = sequence.tokens
    if capacity > 0 {
      let ids = try required(ids, "ids")
      for (index, token) in tokens.enumerated() where UInt64(index) < capacity {
        ids[index] = Int32(token)
      }
    }
    known.pointee = UInt64(tokens.count)
  }
}

/// Remembers a sequence for later prompts.
@c(nibble_sequence_remember)
public func nibbleSequenceRemember(_ sequence: OpaquePointer?) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    sequence.cache.remember(sequence)
  }
}

/// Makes a sequence that holds what is remembered of a prompt.
@c(nibble_sequence_create_continuing)
public func nibbleSequenceCreateContinuing(
  _ cache: OpaquePointer?,
  _ tokens: UInt64,
  _ ids: UnsafePointer<Int32>?,
  _ leave: UInt64,
  _ result: UnsafeMutablePointer<OpaquePointer?>?,
  _ found: UnsafeMutablePointer<UInt64>?
) -> Int32 {
  reporting {
    let result = try required(result, "sequence")
    let cache = try object(cache, as: KVCache.self, "cache")
    let sequence = try cache.makeSequence(
      continuing: readIDs(ids, tokens: tokens),
      leaving: count(leave, "leave")
    )
    found?.pointee = UInt64(sequence.tokenCount)
    result.pointee = makeHandle(sequence)
  }
}

/// The ids of tokens; none of them may be NULL.
private func readIDs(_ ids: UnsafePointer<Int32>?, tokens: UInt64) throws(CallError) -> [Int] {
  guard tokens > 0 else { return [] }
  guard tokens <= ModelShape.tokenLimit else {
    throw CallError(description: "tokens is \(tokens); expected at most \(ModelShape.tokenLimit)")
  }
  return UnsafeBufferPointer(start: try required(ids, "ids"), count: Int(tokens)).map(Int.init)
}
