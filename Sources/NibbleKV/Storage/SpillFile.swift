package import NibbleFiles
import Synchronization

/// Where pages go that do not fit into memory.
public struct DiskTier: Sendable {
  /// A folder that exists; the file in it has no name, and is gone with the cache or the process.
  public var folder: String
  /// The most bytes to store.
  public var limit: ByteBudget

  /// The system calls.
  package var calls = FileCalls.system

  /// Creates a tier.
  public init(folder: String, limit: ByteBudget = .unlimited) {
    self.folder = folder
    self.limit = limit
  }
}

/// The file of a cache's disk tier: grows at its end, and uses space again that pages have let go of.
final class SpillFile: Sendable {
  private let file: PageFile
  private let limit: ByteBudget
  private let telemetry: Telemetry
  private let state = Mutex(State())

  private struct State {
    var space = Space()
    var usedBytes = 0
    /// Bytes of the pages that are stored.
    var pageBytes = 0
  }

  /// Space is given out in whole blocks.
  private static let blockBytes = 4096

  init(_ tier: DiskTier, telemetry: Telemetry = Telemetry()) throws(KVError) {
    self.telemetry = telemetry
    do throws(FileError) {
      file = try PageFile.temporary(in: tier.folder, calls: tier.calls)
    } catch {
      throw .file(error)
    }
    limit = tier.limit
  }

  /// Bytes of the file that are in use, and of the pages that they stand for.
  var bytes: (used: Int, pages: Int) { state.withLock { ($0.usedBytes, $0.pageBytes) } }

  /// Writes a page, with LZ4 where that makes it shorter.
  ///
  /// - Parameters:
  ///   - bytes: The page.
  ///   - elementBytes: Bytes of one number in a page of exact rows, 1 in a page of codes.
  /// - Returns: Where the page lies; its space is free again when the value goes.
  /// - Throws: ``KVError/file(_:)`` or ``KVError/diskBudgetExceeded(neededBytes:heldBytes:limitBytes:)``; nothing is stored then.
  func store(_ bytes: UnsafeRawBufferPointer, elementBytes: Int) throws(KVError) -> StoredPage {
    let block = LosslessBlock(compressing: bytes, elementBytes: elementBytes)
    let stored = block?.bytes.count ?? bytes.count
    let offset = try take(stored, pageBytes: bytes.count)
    do throws(FileError) {
      let checksum: PageChecksum
      if let block {
        checksum = try block.bytes.span.withUnsafeBytes { source throws(FileError) in
          try write(source, at: offset)
        }
      } else {
        checksum = try write(bytes, at: offset)
      }
      return StoredPage(
        file: file,
        offset: offset,
        storedBytes: stored,
        byteCount: bytes.count,
        encoding: block?.encoding ?? .raw,
        checksum: checksum,
        spill: self
      )
    } catch {
      free(offset..<offset + stored, pageBytes: bytes.count)
      throw .file(error)
    }
  }

  private func write(
    _ bytes: UnsafeRawBufferPointer,
    at offset: Int
  ) throws(FileError) -> PageChecksum {
    try file.write(bytes, at: offset)
    return PageChecksum(of: bytes)
  }

  /// Takes back the space of a page.
  func free(_ range: Range<Int>, pageBytes: Int) {
    let range = range.lowerBound..<Self.blockEnd(range.upperBound)
    state.withLock { state in
      state.usedBytes -= range.count
      state.pageBytes -= pageBytes
      state.space.release(range)
      // Nothing is stored: the space goes back to the file system.
      if state.usedBytes == 0 { try? file.truncate(to: 0) }
    }
    telemetry.diskBytes.note { bytes.used }
  }

  private func take(_ count: Int, pageBytes: Int) throws(KVError) -> Int {
    let count = Self.blockEnd(count)
    defer { telemetry.diskBytes.note { bytes.used } }
    return try state.withLock { state throws(KVError) in
      if let limit = limit.byteLimit, state.usedBytes + count > limit {
        throw .diskBudgetExceeded(
          neededBytes: count,
          heldBytes: state.usedBytes,
          limitBytes: limit
        )
      }
      guard let offset = state.space.take(count) else { preconditionFailure("a file has no end") }
      state.usedBytes += count
      state.pageBytes += pageBytes
      return offset
    }
  }

  private static func blockEnd(_ offset: Int) -> Int {
    (offset + blockBytes - 1) / blockBytes * blockBytes
  }
}
