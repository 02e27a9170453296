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
  /// Opens a file to read it, and says how long it is.
  ///
  /// - Throws: ``FileError/unreadable(path:reason:)``, also for what has no bytes of its own.
  package static func input(
    path: String,
    calls: FileCalls = .system
  ) throws(FileError) -> (file: PageFile, status: FileStatus) {
    // A pipe under that name must not make us wait for a writer.
    let file = try PageFile(path: path, flags: O_RDONLY | O_NONBLOCK, calls: calls)
    let status = try file.status()
    guard status.isFile else { throw .unreadable(path: path, reason: "not a file") }
    return (file, status)
  }

  /// The file's name without its folder.
  package var name: String {
    path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
  }

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
  package func lock() -> Bool { uninterrupted { flock(descriptor, LOCK_EX | LOCK_NB) } == 0 }

  /// Lets others at the file again.
  package func unlock() { flock(descriptor, LOCK_UN) }

  /// The bytes of a range, which the caller knows to be sensible.
  package func bytes(_ range: Range<Int>) throws(FileError) -> [UInt8] { try values(range) }

  /// The numbers that lie in a range of bytes, which the caller knows to be sensible.
  package func values<Value: BitwiseCopyable>(
    _ range: Range<Int>
  ) throws(FileError) -> [Value] {
    let capacity = range.count / MemoryLayout<Value>.stride
    var failure: FileError?
    let values = [Value](unsafeUninitializedCapacity: capacity) { target, count in
      do throws(FileError) {
        try read(
          at: range.lowerBound,
          into: UnsafeMutableRawBufferPointer(
            UnsafeMutableBufferPointer(rebasing: target[..<capacity])
          )
        )
        count = capacity
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return values
  }
}
