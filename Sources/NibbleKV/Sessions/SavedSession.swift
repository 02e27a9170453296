import NibbleFiles

/// What a save leaves: the file, and where it has each page.
struct SavedSession: Sendable {
  let link: SessionLink
  let index: SessionIndex
  /// The sequence as it was saved.
  let saved: SequenceState

  /// Tells pages that they are in the file now.
  ///
  /// Sealed pages in memory need not be written again to leave it. Pages that lie in the file before this one move on, so that its
  /// space is free again.
  func share(with state: inout SequenceState, in cache: KVCache, insteadOf old: SessionLink?) {
    let isNew = old.map { $0.file !== link.file } ?? true
    for (layer, entry) in index.layers.enumerated() {
      for (number, place) in entry.storedPages {
        guard let page = saved.layers[layer][page: number] else { continue }
        let isSealed = saved.layers[layer].isSealed(number)
        if page.memory != nil {
          guard isSealed, page.stored == nil else { continue }
          page.stored = StoredPage(place, of: entry, number, in: link.file)
        } else if isNew, let old, page.stored?.file === old.file {
          let isSame =
            number < state.layers[layer].pages.count && state.layers[layer][page: number] === page
          guard isSame else { continue }
          let stored = StoredPage(place, of: entry, number, in: link.file)
          state.layers[layer].move(number, to: Page(stored: stored))
        }
      }
    }
  }
}

extension StoredPage {
  /// A page of a session.
  convenience init(
    _ page: SessionIndex.Page,
    of layer: SessionIndex.Layer,
    _ index: Int,
    in file: PageFile
  ) {
    self.init(
      file: file,
      offset: page.offset,
      storedBytes: page.storedBytes,
      byteCount: layer.byteCount(ofPage: index),
      encoding: page.encoding,
      checksum: page.checksum
    )
  }
}
