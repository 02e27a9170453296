import NibbleKV

/// Moves a sequence's pages to the disk tier.
@c(nibble_sequence_move_to_disk)
public func nibbleSequenceMoveToDisk(_ sequence: OpaquePointer?) -> Int32 {
  reporting { try object(sequence, as: KVSequence.self, "sequence").moveToDisk() }
}

/// Saves a sequence to a session file.
@c(nibble_sequence_save)
public func nibbleSequenceSave(
  _ sequence: OpaquePointer?,
  _ path: UnsafePointer<CChar>?,
  _ compressesPages: UInt32
) -> Int32 {
  reporting {
    let sequence = try object(sequence, as: KVSequence.self, "sequence")
    let path = try text(required(path, "path"), "path")
    try sequence.save(to: path, options: SaveOptions(compressesPages: compressesPages != 0))
  }
}

/// Makes a sequence of a session file.
@c(nibble_sequence_restore)
public func nibbleSequenceRestore(
  _ cache: OpaquePointer?,
  _ path: UnsafePointer<CChar>?,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
  reporting {
    let result = try required(result, "sequence")
    let cache = try object(cache, as: KVCache.self, "cache")
    let path = try text(required(path, "path"), "path")
    result.pointee = makeHandle(try cache.restoreSequence(from: path))
  }
}
