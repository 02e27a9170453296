import NibbleFiles
import NibblePolicy

extension KVCache {
  /// Makes a sequence of a file that ``KVSequence/save(to:options:)`` wrote.
  ///
  /// Pages are read, and checked, when they are first used, so that this takes hardly longer for a long session than for a
  /// short one. The file stays open for as long as pages of it are needed; it may be renamed or removed meanwhile.
  ///
  /// - Parameter path: The file.
  /// - Returns: A sequence that goes on as the one that was saved.
  /// - Throws: ``KVError/otherModel(file:field:found:expected:)`` or ``KVError/otherPlan(file:field:found:expected:)`` if it was saved with another
  ///   model or another policy, and ``KVError/file(_:)`` if it cannot be read, is damaged, or is no session. A page that is
  ///   damaged is `FileError.damaged(file:what:offset:)` from the call that needs it.
  /// - Complexity: O(pages, tokens), with a small factor.
  public func restoreSequence(from path: String) throws(KVError) -> KVSequence {
    try restoreSequence(from: path, calls: .system)
  }

  package func restoreSequence(from path: String, calls: FileCalls) throws(KVError) -> KVSequence {
    let session: SessionFile
    do throws(FileError) {
      session = try SessionFile(path: path, calls: calls)
    } catch {
      throw .file(error)
    }
    let index = session.index
    try index.check(against: self, file: path)
    var state = SequenceState(layers: [], tokens: index.tokens)
    for (number, layer) in index.layers.enumerated() {
      let strips = index.centredStrips(layer: number)
      let means = layer.means.flatMap { LayerMeans($0, plan: plan.layers[number], strips: strips) }
      state.layers.append(LayerState(layer, means: means, in: session.file))
    }
    let link = SessionLink(
      file: session.file,
      status: session.status,
      superblock: session.superblock,
      index: index
    )
    return KVSequence(cache: self, state: state, session: link)
  }
}

extension LayerState {
  /// A layer whose pages are in a file.
  fileprivate init(_ layer: SessionIndex.Layer, means: LayerMeans?, in file: PageFile) {
    self.init()
    for (index, page) in layer.storedPages {
      let page = Page(stored: StoredPage(page, of: layer, index, in: file))
      if index < 0 {
        setSinkPage(page)
      } else {
        while pages.count < index { append(.dropped) }
        append(page)
      }
    }
    while pages.count < layer.pageCount { append(.dropped) }
    dropPages(layer.droppedCount)
    tokenCount = layer.tokenCount
    sealedCount = layer.sealedCount
    agedCounts = layer.agedCounts
    self.means = means
  }
}
