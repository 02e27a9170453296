package import NibbleFiles
import Synchronization

/// How a sequence is saved.
public struct SaveOptions: Sendable {
  /// Whether pages are compressed with LZ4 where that makes them shorter.
  ///
  /// Codes have almost no redundancy left, exact rows have some; it takes time. Pages that the file has already stay as they are.
  public var compressesPages: Bool

  /// The system calls.
  package var calls = FileCalls.system

  /// Creates options.
  public init(compressesPages: Bool = false) {
    self.compressesPages = compressesPages
  }
}

extension KVSequence {
  /// Saves the sequence to a file.
  ///
  /// A process that ends or a machine that loses power at any moment leaves the session that was there before, or this one. A
  /// sequence that was saved to the file or restored from it before appends what is new, unless that would leave the file half
  /// unused; otherwise a new file takes the place of the old one. Specs/session-format.md has the format.
  ///
  /// The sequence can be appended to and attended with meanwhile; saved is what it was when the call began.
  ///
  /// - Parameters:
  ///   - path: The file; its folder must exist.
  ///   - options: How to save.
  /// - Throws: ``KVError/file(_:)`` if the file cannot be written, or if pages that lie in a file cannot be read. The old file, if
  ///   there was one, is intact then.
  /// - Complexity: O(bytes of the pages that are new, pages, tokens).
  public func save(to path: String, options: SaveOptions = SaveOptions()) throws(KVError) {
    try session.withLock { link throws(KVError) in
      let save = SessionSave(cache: cache, state: snapshot(), path: path, options: options)
      let old = link
      let saved: SavedSession
      do throws(SessionSave.Failure) {
        saved = try save.run(after: old)
      } catch {
        // Nobody knows what the file's newest superblock is.
        if error.isUncertain { link = nil }
        throw .file(error.cause)
      }
      link = saved.link
      try withState { state throws(KVError) in saved.share(with: &state, in: cache, insteadOf: old)
      }
    }
  }
}
