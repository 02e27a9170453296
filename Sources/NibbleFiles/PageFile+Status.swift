#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Which file it is, and how long.
package struct FileStatus: Hashable, Sendable {
  package let device: UInt64
  package let inode: UInt64
  package let byteCount: Int
  /// Whether it has bytes of its own: no folder, pipe or device.
  package let isFile: Bool

  private init(_ status: stat) {
    device = UInt64(truncatingIfNeeded: status.st_dev)
    inode = UInt64(truncatingIfNeeded: status.st_ino)
    byteCount = Int(status.st_size)
    isFile = status.st_mode & S_IFMT == S_IFREG
  }

  /// The file that a path leads to now; `nil` if there is none.
  package init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(status)
  }

  fileprivate init?(descriptor: Int32) {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return nil }
    self.init(status)
  }

  /// Whether it is the same file, whatever its name and length.
  package func isSame(as other: FileStatus) -> Bool {
    device == other.device && inode == other.inode
  }
}

extension PageFile {
  /// Which file it is, and how long it is now.
  ///
  /// - Throws: ``FileError/unreadable(path:reason:)``.
  package func status() throws(FileError) -> FileStatus {
    guard let status = FileStatus(descriptor: descriptor) else {
      throw .unreadable(path: path, reason: lastReason())
    }
    return status
  }

  /// Keeps everybody else who asks in the same way from the file, until it is closed.
  ///
  /// - Returns: Whether nobody was there before.
  package func lock() -> Bool {
    while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
      guard errno == EINTR else { return false }
    }
    return true
  }

  /// Lets others at the file again.
  package func unlock() { flock(descriptor, LOCK_UN) }

  /// The bytes of a range, which the caller knows to be sensible.
  package func bytes(_ range: Range<Int>) throws(FileError) -> [UInt8] {
    var failure: FileError?
    let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { target, count in
      do throws(FileError) {
        try read(
          at: range.lowerBound,
          into: UnsafeMutableRawBufferPointer(start: target.baseAddress, count: range.count)
        )
        count = range.count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return bytes
  }
}
