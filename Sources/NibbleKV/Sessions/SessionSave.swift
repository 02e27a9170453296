import NibbleFiles
import NibblePolicy

/// One save of a sequence.
struct SessionSave {
  let cache: KVCache
  let state: SequenceState
  let path: String
  let options: SaveOptions

  /// Why a save failed.
  struct Failure: Error {
    var cause: FileError
    /// Whether the superblock may have been written all the same.
    var isUncertain = false
  }

  /// Saves; `link` is the file that the sequence is in, if it is in one.
  func run(after link: SessionLink?) throws(Failure) -> SavedSession {
    let opened: PageFile?
    do throws(FileError) {
      opened = try link?.openForAppend(path, calls: options.calls)
    } catch {
      throw Failure(cause: error)
    }
    if let link, let opened, isWorthAppending(to: link) {
      return try append(to: opened, link)
    }
    do throws(FileError) {
      return try writeAnew(holding: opened)
    } catch {
      throw Failure(cause: error)
    }
  }

  // MARK: - Append

  /// Whether at least half of the file would be in use.
  private func isWorthAppending(to link: SessionLink) -> Bool {
    var kept = 0
    var added = 0
    forEachPage { layer, index, page in
      let rung = state.layers[layer].rungOfSealed(index)
      if let old = link.page(index, ofLayer: layer, rung: rung) {
        kept += old.range.count
      } else {
        added += page.byteCount + SessionIndex.pageBytes
      }
    }
    added += link.superblock.index.count
    return 2 * (kept + added) >= link.superblock.byteCount + added
  }

  private func append(to file: PageFile, _ link: SessionLink) throws(Failure) -> SavedSession {
    let end = link.superblock.byteCount
    let superblock: SessionSuperblock
    let index: SessionIndex
    do throws(FileError) {
      // An unfinished save.
      if try file.status().byteCount > end { try file.truncate(to: end) }
      let header = SessionSegment(after: link.superblock).bytes
      var writer = SessionAppender(file: file, end: end)
      _ = try writer.append(header)
      // Whatever of the rest is on disk after a loss of power, the header before it says what it is.
      try file.sync()
      index = try self.index(in: &writer, link)
      superblock = try writer.finish(index, generation: link.superblock.generation + 1)
      try file.sync()
    } catch {
      try? file.truncate(to: end)
      throw Failure(cause: error)
    }
    do throws(FileError) {
      try SessionAppender.write(superblock, to: file)
      try file.sync()
    } catch {
      throw Failure(cause: error, isUncertain: true)
    }
    return SavedSession(
      link: SessionLink(file: link.file, status: link.status, superblock: superblock, index: index),
      index: index,
      saved: state
    )
  }

  // MARK: - Write anew

  /// Writes a file that takes the place of the old one, which may be locked already.
  private func writeAnew(holding locked: PageFile?) throws(FileError) -> SavedSession {
    let file = try PageFile.successor(of: path, calls: options.calls)
    let old =
      locked ?? (try? PageFile(path: path, flags: SystemFlags.readOnly, calls: options.calls))
    // Until the old file's name is gone, nobody appends to it.
    defer { withExtendedLifetime(old) {} }
    do throws(FileError) {
      if locked == nil, let old, try old.status().isFile, !old.lock() { throw .busy(path: path) }
      var writer = SessionAppender(file: file, end: SessionSuperblock.dataStart)
      let index = try self.index(in: &writer, nil)
      let superblock = try writer.finish(index, generation: 1)
      try SessionAppender.write(superblock, to: file)
      try file.sync()
      try file.take(name: path)
      let (named, status) = try reopened(file)
      return SavedSession(
        link: SessionLink(file: named, status: status, superblock: superblock, index: index),
        index: index,
        saved: state
      )
    } catch {
      file.unlink()
      throw error
    }
  }

  /// The file under its new name, so that messages name it.
  private func reopened(_ file: PageFile) throws(FileError) -> (PageFile, FileStatus) {
    let status = try file.status()
    file.unlock()
    let named = try? PageFile(path: path, flags: SystemFlags.readOnly, calls: options.calls)
    if let named, try named.status().isSame(as: status) { return (named, status) }
    return (file, status)
  }

  // MARK: - Index and pages

  /// Writes the pages that the file lacks, and says where all are.
  private func index(
    in writer: inout SessionAppender,
    _ link: SessionLink?
  ) throws(FileError) -> SessionIndex {
    var index = SessionIndex(
      libraryVersion: NibbleKVVersion.text,
      shape: cache.shape,
      policy: cache.plan.policy.yaml,
      plan: SessionIndex.Plan(cache),
      tokens: state.tokens,
      layers: []
    )
    for layer in state.layers.indices {
      index.layers.append(try entry(of: layer, index, &writer, link))
    }
    try checkLimits(of: index)
    return index
  }

  /// What no reader would take is not written.
  private func checkLimits(of index: SessionIndex) throws(FileError) {
    let tokens = index.layers.map(\.tokenCount).max() ?? 0
    let dropped = index.layers.reduce(0) { $0 + $1.droppedCount }
    for (what, count, limit) in [
      ("a list of tokens", tokens, ModelShape.tokenLimit),
      ("a list of dropped pages", dropped, SessionIndex.droppedLimit),
    ] where count > limit {
      throw .tooLong(
        file: path,
        what: what,
        byteCount: UInt64(count),
        limit: UInt64(limit)
      )
    }
  }

  private func entry(
    of layer: Int,
    _ index: SessionIndex,
    _ writer: inout SessionAppender,
    _ link: SessionLink?
  ) throws(FileError) -> SessionIndex.Layer {
    let held = state.layers[layer]
    var entry = SessionIndex.Layer(
      tokenCount: held.tokenCount,
      pageCount: held.pages.count,
      sealedCount: held.sealedCount,
      agedCounts: held.agedCounts(rungs: index.plan.rungs[layer].count),
      droppedCount: held.droppedCount,
      pageBytes: SessionIndex.Layer.PageBytes(cache.plan.layers[layer]),
      pages: []
    )
    entry.means = held.means?.saved(strips: index.centredStrips(layer: layer))
    let mover = cache.mover(layer: layer)
    for number in -1..<held.pages.count {
      guard number < 0 || number >= held.droppedCount, let page = held[page: number] else {
        continue
      }
      let isSealed = held.isSealed(number)
      var place = link?.page(number, ofLayer: layer, rung: held.rungOfSealed(number))
      if place == nil {
        let elementBytes = options.compressesPages ? mover.elementBytes(isSealed: isSealed) : nil
        place = try writer.append(page, elementBytes: elementBytes)
      }
      guard let place else { continue }
      if number < 0 { entry.sinkPage = place } else { entry.pages.append(place) }
    }
    return entry
  }

  private func forEachPage(_ body: (_ layer: Int, _ index: Int, _ page: Page) -> Void) {
    for (layer, held) in state.layers.enumerated() {
      if let page = held.sinkPage { body(layer, -1, page) }
      for index in held.droppedCount..<held.pages.count { body(layer, index, held.pages[index]) }
    }
  }
}

extension LayerState {
  /// What a page is encoded as; `nil` for an exact one.
  fileprivate func rungOfSealed(_ index: Int) -> Int? { isSealed(index) ? rung(of: index) : nil }

  /// How many pages, from the front, are at least of each rung from the second on.
  fileprivate func agedCounts(rungs: Int) -> [Int] {
    (1..<max(rungs, 1)).map { agedCount(rung: $0) }
  }
}
