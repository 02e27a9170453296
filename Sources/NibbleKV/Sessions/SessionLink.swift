import NibbleFiles

/// The file that a sequence was saved to or restored from, and which of its pages the sequence still has unchanged.
struct SessionLink: Sendable {
  /// The file, open to be read.
  let file: PageFile
  let status: FileStatus
  let superblock: SessionSuperblock
  private let layers: [SessionIndex.Layer]
  private let sinks: Int
  private let pageTokens: Int
  /// Tokens of each layer that have not been taken back since.
  private var unchangedTokens: [Int]

  init(
    file: PageFile,
    status: FileStatus,
    superblock: SessionSuperblock,
    index: SessionIndex
  ) {
    self.file = file
    self.status = status
    self.superblock = superblock
    layers = index.layers
    sinks = index.plan.sinks
    pageTokens = index.plan.pageTokens
    unchangedTokens = layers.map(\.tokenCount)
  }

  /// Notes that tokens were taken back.
  mutating func keepTokens(_ count: Int) {
    for layer in unchangedTokens.indices {
      unchangedTokens[layer] = min(unchangedTokens[layer], count)
    }
  }

  /// Where the file has a page of the sequence as it is now; `nil` if it does not have it.
  ///
  /// Pages change until they are full, when they are sealed, and with each age: `rung` is what the page is encoded as now, `nil` for
  /// an exact one. The sink page is page -1.
  func page(_ index: Int, ofLayer layer: Int, rung: Int?) -> SessionIndex.Page? {
    let saved = layers[layer]
    let tokens = unchangedTokens[layer]
    if index < 0 { return tokens >= sinks ? saved.sinkPage : nil }
    let full = max(0, tokens - sinks) / pageTokens
    guard index >= saved.droppedCount, index < full, saved.rung(ofPage: index) == rung else {
      return nil
    }
    return saved.pages[index - saved.droppedCount]
  }
}

extension SessionLink {
  /// Opens the file, if it lies at `path`, for a save that appends to it.
  ///
  /// - Parameters:
  ///   - path: Where the session is wanted.
  ///   - calls: The system calls.
  /// - Returns: The file, locked; `nil` if another one lies there, or somebody else has changed it.
  /// - Throws: ``FileError/unwritable(path:reason:)`` if somebody else saves to it right now.
  func openForAppend(_ path: String, calls: FileCalls) throws(FileError) -> PageFile? {
    // What cannot be opened is written anew, and then it shows why not.
    let opened = try? PageFile(path: path, flags: SystemFlags.readAndWrite, calls: calls)
    guard let opened, try opened.status().isSame(as: status) else { return nil }
    guard opened.lock() else { throw .busy(path: path) }
    // Somebody may have put another file in its place before it was locked.
    guard let now = FileStatus(path: path), now.isSame(as: status),
      now.byteCount >= superblock.byteCount
    else { return nil }
    let (whole, _) = try SessionFile.superblocks(of: opened, byteCount: now.byteCount)
    return whole.first == superblock ? opened : nil
  }
}
