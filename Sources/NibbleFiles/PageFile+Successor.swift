#if canImport(Darwin)
package import Darwin
#elseif canImport(Glibc)
package import Glibc
#elseif canImport(Musl)
package import Musl
#endif

/// Replacing a file as a whole, or not at all.
extension PageFile {
  /// An empty file that will take the place of another once it is whole; nobody else writes to it meanwhile.
  ///
  /// It always has the same name, that of the other with `.saving` behind it. So what was cut short leaves one file at most, which
  /// the next one uses.
  ///
  /// - Throws: ``FileError/unwritable(path:reason:)``.
  package static func successor(
    of path: String,
    mode: mode_t = 0o600,
    calls: FileCalls = .system
  ) throws(FileError) -> PageFile {
    let name = path + ".saving"
    // Whoever puts a link there is refused. The file loses its name when another save ends between opening and locking.
    for _ in 0..<100 {
      let flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK
      let file = try PageFile(path: name, flags: flags, mode: mode, calls: calls)
      guard file.lock() else { throw .busy(path: path) }
      let status = try file.status()
      guard status.isFile else { throw .unwritable(path: name, reason: "not a file") }
      guard let now = FileStatus(path: name), now.isSame(as: status) else { continue }
      if status.byteCount > 0 { try file.truncate(to: 0) }
      return file
    }
    throw .busy(path: path)
  }

  /// Gives the file its final name, in the same folder and for good; what had that name is gone.
  ///
  /// - Throws: ``FileError/unwritable(path:reason:)``.
  package func take(name: String) throws(FileError) {
    guard calls.rename(path, name) == 0 else {
      throw .unwritable(path: name, reason: lastReason())
    }
    let slash = name.lastIndex(of: "/")
    let folder = slash.map { $0 == name.startIndex ? "/" : String(name[..<$0]) } ?? "."
    try PageFile(path: folder, flags: O_RDONLY | O_DIRECTORY, calls: calls).sync()
  }

  /// Takes away the name that the file was opened by.
  package func unlink() { _ = calls.unlink(path) }
}

extension FileError {
  /// Two must not write to one file.
  package static func busy(path: String) -> FileError {
    .unwritable(path: path, reason: "somebody else is saving to it")
  }
}
