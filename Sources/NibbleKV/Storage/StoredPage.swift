import NibbleFiles
import Synchronization

/// A page's bytes in a file.
///
/// Every page that was written once or read back shares it, so that no page is written or held twice. In a spill file its
/// space is free again when the last of them lets go.
final class StoredPage: Sendable {
  let file: PageFile
  /// Where the stored bytes begin.
  let offset: Int
  /// Bytes in the file.
  let storedBytes: Int
  /// Bytes of the page.
  let byteCount: Int
  let encoding: LosslessBlock.Encoding
  /// Of the stored bytes.
  ///
  /// Those of a disk tier have one as well: a disk may turn out to be full, or to fail, when a write has long returned.
  let checksum: PageChecksum
  private let isVerified = Atomic(false)
  private let spill: SpillFile?
  private let resident = Mutex(Resident())

  private struct Resident {
    weak var page: Page?
  }

  init(
    file: PageFile,
    offset: Int,
    storedBytes: Int,
    byteCount: Int,
    encoding: LosslessBlock.Encoding,
    checksum: PageChecksum,
    spill: SpillFile? = nil
  ) {
    self.file = file
    self.offset = offset
    self.storedBytes = storedBytes
    self.byteCount = byteCount
    self.encoding = encoding
    self.checksum = checksum
    self.spill = spill
  }

  deinit { spill?.free(offset..<offset + storedBytes, pageBytes: byteCount) }

  /// The page in memory that has these bytes, if there is one.
  var page: Page? {
    get { resident.withLock { $0.page } }
    set { resident.withLock { $0.page = newValue } }
  }

  /// Asks the system to read ahead.
  func prefetch() { file.prefetch(offset..<offset + storedBytes) }

  /// Reads a stretch of the page.
  ///
  /// - Parameters:
  ///   - range: Bytes of the page.
  ///   - target: Room for the whole page; the stretch goes to its place.
  /// - Throws: ``KVError/file(_:)`` if the file cannot be read or its bytes are not those that were written.
  func read(_ range: Range<Int>, into target: UnsafeMutableRawPointer) throws(KVError) {
    do throws(FileError) {
      if encoding == .raw, isVerified.load(ordering: .acquiring) {
        let part = UnsafeMutableRawBufferPointer(
          start: target + range.lowerBound,
          count: range.count
        )
        try file.read(at: offset + range.lowerBound, into: part)
      } else {
        try readAll(into: UnsafeMutableRawBufferPointer(start: target, count: byteCount))
      }
    } catch {
      throw .file(error)
    }
  }

  /// The bytes as the file has them.
  ///
  /// - Throws: ``FileError`` if the file cannot be read or its bytes are not those that were written.
  func storedBytesOfFile() throws(FileError) -> [UInt8] {
    let bytes = try file.bytes(offset..<offset + storedBytes)
    if let failure = bytes.withUnsafeBytes({ failure(of: $0) }) { throw failure }
    return bytes
  }

  private func readAll(into target: UnsafeMutableRawBufferPointer) throws(FileError) {
    if encoding == .raw {
      guard storedBytes == byteCount else { throw damaged("a page's length") }
      try file.read(at: offset, into: target)
      try verify(UnsafeRawBufferPointer(target))
      return
    }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: storedBytes, alignment: 64)
    defer { bytes.deallocate() }
    try file.read(at: offset, into: bytes)
    try verify(UnsafeRawBufferPointer(bytes))
    let block = LosslessBlock(encoding: encoding, bytes: Array(bytes))
    do throws(LosslessBlock.Failure) {
      target.copyBytes(from: try block.expanded(byteCount: byteCount))
    } catch {
      switch error {
      case .unavailable:
        throw .wrongContent(file: file.path, reason: "a page needs LZ4, which this build lacks")
      case .damaged: throw damaged("a page's LZ4 frame")
      }
    }
  }

  private func verify(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
    if let failure = failure(of: bytes) { throw failure }
  }

  private func failure(of bytes: UnsafeRawBufferPointer) -> FileError? {
    guard !isVerified.load(ordering: .acquiring) else { return nil }
    guard PageChecksum(of: bytes) == checksum else { return damaged("a page's checksum") }
    isVerified.store(true, ordering: .releasing)
    return nil
  }

  private func damaged(_ what: String) -> FileError {
    .damaged(file: file.path, what: what, offset: UInt64(offset))
  }
}
