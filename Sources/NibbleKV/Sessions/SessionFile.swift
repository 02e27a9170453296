package import NibbleFiles

/// A session in a file: what counts of it, and its index.
///
/// Opening it reads superblocks and index, and no page.
package final class SessionFile: Sendable {
  package let file: PageFile
  /// Which file it is, and how long it was when it was opened.
  package let status: FileStatus
  package let superblock: SessionSuperblock
  package let index: SessionIndex
  /// What is wrong with the superblock or the index of another save, which is passed over; `nil` if nothing is.
  package let passedOver: FileError?

  /// Opens a session.
  ///
  /// - Throws: ``FileError`` that says what is wrong and where.
  /// - Complexity: O(bytes of the index), which takes one entry for each page and each token.
  package init(path: String, calls: FileCalls = .system) throws(FileError) {
    (file, status) = try PageFile.input(path: path, calls: calls)
    let choice = try Self.choose(from: file, byteCount: status.byteCount)
    superblock = choice.superblock
    passedOver = choice.passedOver
    index = try SessionIndex(choice.index, superblock: superblock, file: path)
    try Self.checkEnd(of: file, superblock, byteCount: status.byteCount)
  }

  /// Bytes of an unfinished save behind the session.
  package var unfinishedBytes: Int { status.byteCount - superblock.byteCount }

  /// Bytes that belong to nothing any more, but to saves before.
  package var unusedBytes: Int {
    let pages = index.layers.reduce(0) { sum, layer in
      sum + layer.storedPages.reduce(0) { $0 + $1.page.range.count }
    }
    return superblock.byteCount - SessionSuperblock.dataStart - pages
      - SessionIndex.aligned(superblock.index.count)
  }

  // MARK: - Superblocks

  private struct Choice {
    var superblock: SessionSuperblock
    var index: [UInt8]
    var passedOver: FileError?
  }

  /// The superblocks that are whole, the newest first, and what is wrong with the others.
  static func superblocks(
    of file: PageFile,
    byteCount: Int
  ) throws(FileError) -> (whole: [SessionSuperblock], faults: [FileError]) {
    guard byteCount >= SessionSuperblock.dataStart else {
      let magic = SessionSuperblock.magic
      let start = try file.bytes(0..<min(byteCount, magic.count))
      guard start == magic else { throw .notOfKind(file: file.path, expected: "a session") }
      throw .truncated(
        file: file.path,
        byteCount: UInt64(byteCount),
        needed: UInt64(SessionSuperblock.dataStart)
      )
    }
    var whole: [SessionSuperblock] = []
    var faults: [FileError] = []
    for offset in [0, SessionSuperblock.spacing] {
      let bytes = try file.bytes(offset..<offset + SessionSuperblock.byteCount)
      do throws(FileError) {
        whole.append(try SessionSuperblock(bytes, offset: offset, file: file.path))
      } catch {
        switch error {
        case .notOfKind: continue
        case .damaged: faults.append(error)
        default: throw error
        }
      }
    }
    if whole.isEmpty, faults.isEmpty { throw .notOfKind(file: file.path, expected: "a session") }
    return (whole.sorted { $0.generation > $1.generation }, faults)
  }

  /// The newest superblock whose index is whole.
  private static func choose(from file: PageFile, byteCount: Int) throws(FileError) -> Choice {
    let (whole, faults) = try superblocks(of: file, byteCount: byteCount)
    var first: FileError?
    for superblock in whole {
      do throws(FileError) {
        let index = try indexBytes(of: superblock, in: file, byteCount: byteCount)
        return Choice(superblock: superblock, index: index, passedOver: first ?? faults.first)
      } catch {
        switch error {
        case .truncated, .damaged: first = first ?? error
        default: throw error
        }
      }
    }
    throw first ?? faults[0]
  }

  private static func indexBytes(
    of superblock: SessionSuperblock,
    in file: PageFile,
    byteCount: Int
  ) throws(FileError) -> [UInt8] {
    guard superblock.byteCount <= byteCount else {
      throw .truncated(
        file: file.path,
        byteCount: UInt64(byteCount),
        needed: UInt64(superblock.byteCount)
      )
    }
    let bytes = try file.bytes(superblock.index)
    guard digest(of: bytes) == superblock.indexDigest else {
      throw .damaged(
        file: file.path,
        what: "the index",
        offset: UInt64(superblock.index.lowerBound)
      )
    }
    return bytes
  }

  /// Behind the session there is nothing, or a save that was not finished.
  private static func checkEnd(
    of file: PageFile,
    _ superblock: SessionSuperblock,
    byteCount: Int
  ) throws(FileError) {
    let end = superblock.byteCount
    // The header itself may be unfinished.
    guard byteCount - end > SessionSegment.byteCount else { return }
    let header = try file.bytes(end..<end + SessionSegment.byteCount)
    guard header == SessionSegment(after: superblock).bytes else {
      throw .longer(file: file.path, byteCount: UInt64(byteCount), expected: UInt64(end))
    }
  }
}
