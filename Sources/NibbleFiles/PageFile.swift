#if canImport(Darwin)
package import Darwin
#elseif canImport(Glibc)
package import Glibc
#elseif canImport(Musl)
package import Musl
#endif

/// An open file that pages are written to and read from, at any offset and from any thread.
///
/// Not mapped: whoever shortens a mapped file ends the process that reads it, while here the reader gets a typed error; and
/// pages that are used belong in the slabs of huge pages anyway.
package final class PageFile: Sendable {
  /// The path that the file was opened by, for messages; the file may have lost that name since.
  package let path: String
  package let descriptor: Int32
  let calls: FileCalls

  /// Takes over an open descriptor.
  package init(descriptor: Int32, path: String, calls: FileCalls) {
    self.descriptor = descriptor
    self.path = path
    self.calls = calls
  }

  /// Opens a file.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - flags: As the system's `open` takes them; the descriptor is not handed on to other programs.
  ///   - mode: Who may do what with a file that is made; what sessions hold is nobody else's business.
  ///   - calls: The system calls.
  /// - Throws: ``FileError/unreadable(path:reason:)``, or ``FileError/unwritable(path:reason:)`` where it was to be written.
  package convenience init(
    path: String,
    flags: Int32,
    mode: mode_t = 0o600,
    calls: FileCalls = .system
  ) throws(FileError) {
    let descriptor = uninterrupted { calls.open(path, flags | O_CLOEXEC, mode) }
    guard descriptor >= 0 else {
      let reason = lastReason()
      if flags & (O_WRONLY | O_RDWR) == 0 { throw .unreadable(path: path, reason: reason) }
      throw .unwritable(path: path, reason: reason)
    }
    self.init(descriptor: descriptor, path: path, calls: calls)
  }

  /// A file without a name in a folder, which is gone when the process is, however that ends.
  ///
  /// - Throws: ``FileError/unwritable(path:reason:)``.
  package static func temporary(
    in folder: String,
    calls: FileCalls = .system
  ) throws(FileError) -> PageFile {
    #if os(Linux)
    // O_TMPFILE: the file never has a name. Not every file system has it.
    let flags = 0o20_000_000 | O_DIRECTORY | O_RDWR | O_CLOEXEC
    let nameless = uninterrupted { calls.open(folder, flags, 0o600) }
    if nameless >= 0 { return PageFile(descriptor: nameless, path: folder, calls: calls) }
    #endif
    let path = "\(folder)/nibblekv-\(getpid())-\(UInt64.random(in: 0...(.max))).pages"
    let file = try PageFile(path: path, flags: O_RDWR | O_CREAT | O_EXCL, calls: calls)
    guard calls.unlink(path) == 0 else { throw .unwritable(path: path, reason: lastReason()) }
    return file
  }

  deinit { calls.close(descriptor) }

  /// Fills a buffer with the bytes at an offset.
  ///
  /// - Throws: ``FileError/unreadable(path:reason:)``, or ``FileError/truncated(file:byteCount:needed:)`` if the file ends
  ///   before.
  package func read(
    at offset: Int,
    into target: UnsafeMutableRawBufferPointer
  ) throws(FileError) {
    guard let base = target.baseAddress else { return }
    var done = 0
    while done < target.count {
      let count = uninterrupted {
        calls.read(descriptor, base + done, target.count - done, offset + done)
      }
      guard count >= 0 else { throw .unreadable(path: path, reason: lastReason()) }
      guard count > 0 else {
        throw .truncated(
          file: path,
          byteCount: UInt64(offset + done),
          needed: UInt64(offset + target.count)
        )
      }
      done += count
    }
  }

  /// Writes bytes at an offset.
  ///
  /// - Throws: ``FileError/unwritable(path:reason:)``; some of the bytes may have been written then.
  package func write(_ source: UnsafeRawBufferPointer, at offset: Int) throws(FileError) {
    guard let base = source.baseAddress else { return }
    var done = 0
    while done < source.count {
      let count = uninterrupted {
        calls.write(descriptor, base + done, source.count - done, offset + done)
      }
      guard count > 0 else { throw .unwritable(path: path, reason: lastReason()) }
      done += count
    }
  }

  /// Waits until everything that was written is safe from a loss of power.
  package func sync() throws(FileError) {
    guard uninterrupted({ calls.sync(descriptor) }) == 0 else {
      throw .unwritable(path: path, reason: lastReason())
    }
  }

  /// Cuts the file off.
  package func truncate(to byteCount: Int) throws(FileError) {
    guard uninterrupted({ calls.truncate(descriptor, byteCount) }) == 0 else {
      throw .unwritable(path: path, reason: lastReason())
    }
  }

  /// Asks the system to read ahead; never fails.
  package func prefetch(_ range: Range<Int>) {
    #if os(Linux)
    posix_fadvise(descriptor, off_t(range.lowerBound), off_t(range.count), POSIX_FADV_WILLNEED)
    #elseif canImport(Darwin)
    var advice = radvisory(
      ra_offset: off_t(range.lowerBound),
      ra_count: Int32(clamping: range.count)
    )
    _ = fcntl(descriptor, F_RDADVISE, &advice)
    #endif
  }
}

/// Calls again for as long as a signal comes in between.
func uninterrupted<Result: SignedInteger>(_ call: () -> Result) -> Result {
  while true {
    let result = call()
    guard result < 0, errno == EINTR else { return result }
  }
}

/// The system's words for the last failure.
package func lastReason() -> String { String(cString: strerror(errno)) }
