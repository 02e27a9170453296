import NibbleFiles

/// Writes pages and an index to a file, one behind the other, each at a multiple of 64.
struct SessionAppender {
  let file: PageFile
  /// Bytes of the file so far.
  private(set) var end: Int

  init(file: PageFile, end: Int) {
    self.file = file
    self.end = end
  }

  /// Writes bytes, and returns where they lie.
  mutating func append(_ bytes: [UInt8]) throws(FileError) -> Int {
    let padded = SessionIndex.aligned(bytes.count)
    let whole = bytes + Array(repeating: 0, count: padded - bytes.count)
    if let failure = whole.withUnsafeBytes({ write($0) }) { throw failure }
    end += padded
    return end - padded
  }

  private func write(_ bytes: UnsafeRawBufferPointer) -> FileError? {
    do throws(FileError) {
      try file.write(bytes, at: end)
      return nil
    } catch {
      return error
    }
  }

  /// Writes a page that is in memory or in another file.
  ///
  /// If it may be compressed, `elementBytes` are the bytes of one number, as ``LosslessBlock`` takes them.
  mutating func append(_ page: Page, elementBytes: Int?) throws(FileError) -> SessionIndex.Page {
    if let base = page.memory {
      let bytes = UnsafeRawBufferPointer(start: base, count: page.byteCount)
      return try append(raw: bytes, elementBytes: elementBytes)
    }
    guard let stored = page.stored else { preconditionFailure("the page was dropped") }
    let bytes = try stored.storedBytesOfFile()
    return try append(bytes, encoding: stored.encoding)
  }

  private mutating func append(
    raw bytes: UnsafeRawBufferPointer,
    elementBytes: Int?
  ) throws(FileError) -> SessionIndex.Page {
    if let elementBytes,
      let block = LosslessBlock(compressing: bytes, elementBytes: elementBytes)
    {
      return try append(block.bytes, encoding: block.encoding)
    }
    // A whole number of lines already.
    let offset = end
    try file.write(bytes, at: offset)
    end += bytes.count
    return SessionIndex.Page(
      offset: offset,
      storedBytes: bytes.count,
      encoding: .raw,
      checksum: PageChecksum(of: bytes)
    )
  }

  private mutating func append(
    _ bytes: [UInt8],
    encoding: LosslessBlock.Encoding
  ) throws(FileError) -> SessionIndex.Page {
    SessionIndex.Page(
      offset: try append(bytes),
      storedBytes: bytes.count,
      encoding: encoding,
      checksum: bytes.withUnsafeBytes { PageChecksum(of: $0) }
    )
  }

  /// Writes the index, and says what the superblock must be; it is not written yet.
  mutating func finish(
    _ index: SessionIndex,
    generation: UInt64
  ) throws(FileError) -> SessionSuperblock {
    let bytes = index.bytes
    let offset = try append(bytes)
    return SessionSuperblock(
      generation: generation,
      byteCount: end,
      index: offset..<offset + bytes.count,
      indexDigest: digest(of: bytes)
    )
  }

  static func write(_ superblock: SessionSuperblock, to file: PageFile) throws(FileError) {
    var writer = SessionAppender(file: file, end: superblock.offset)
    _ = try writer.append(superblock.bytes)
  }
}
