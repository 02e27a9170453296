import NibbleCodec
import NibblePolicy

/// Moves a layer's pages between memory and files.
struct PageMover {
  let plan: Plan.Layer
  let geometry: LayerGeometry
  let pool: PagePool
  let workers: Workers

  // MARK: - Into memory

  /// Reads what an append writes to or seals: the sinks while they are filled, and all exact pages.
  ///
  /// - Throws: ``KVError`` for an exceeded budget or a file that cannot be read; nothing has moved then.
  func loadForAppend(_ state: inout LayerState) throws(KVError) {
    guard state.storedCount > 0 else { return }
    let first = geometry.sinkTokens(of: state.tokenCount) < geometry.sinks ? -1 : 0
    let settled = geometry.settledPages(of: state)
    let wanted = (first..<state.pages.count).filter { $0 < 0 || $0 >= settled }
    try load(wanted, of: &state)
  }

  /// The most bytes of a layer that one call of attention brings back.
  ///
  /// Memory that is fresh from the system costs several times what reading, checking and attending to its bytes does, so no call waits
  /// for all of a long sequence.
  static let attentionBytes = 8 << 20

  /// Reads pages, the oldest first, up to ``attentionBytes``: those, or none if the budget has no room for them.
  ///
  /// - Throws: ``KVError/file(_:)`` if a file cannot be read; nothing has moved then.
  func loadForAttention(_ state: inout LayerState) throws(KVError) {
    guard state.storedCount > 0 else { return }
    var room = Self.attentionBytes
    let wanted = (-1..<state.pages.count).filter { index in
      guard let page = state[page: index], page.isStoredOnly, page.byteCount <= room else {
        return false
      }
      room -= page.byteCount
      return true
    }
    do throws(KVError) {
      try load(wanted, of: &state)
    } catch {
      // Attention reads them one by one.
      guard case .budgetExceeded = error else { throw error }
    }
  }

  private func load(_ indices: [Int], of state: inout LayerState) throws(KVError) {
    var wanted: [Int: Int] = [:]
    var missing: [(index: Int, stored: StoredPage)] = []
    // Held from here on, so that they stay where they are.
    var found: [(index: Int, page: Page)] = []
    for index in indices {
      guard let page = state[page: index], page.isStoredOnly, let stored = page.stored else {
        continue
      }
      // Exact pages are still written to, so each sequence reads its own.
      if state.isSealed(index), let twin = stored.page {
        found.append((index, twin))
      } else {
        missing.append((index, stored))
        wanted[stored.byteCount, default: 0] += 1
      }
    }
    var pages = wanted.isEmpty ? [:] : try pool.take(wanted, zeroed: false)
    let targets = missing.compactMap { pages[$0.stored.byteCount]?.popLast() }
    let failure = FirstFailure()
    workers.run(items: missing.count) { item, _ in
      do throws(KVError) {
        let stored = missing[item].stored
        try stored.read(0..<stored.byteCount, into: targets[item].base)
      } catch {
        failure.record(error, item: item)
      }
    }
    try failure.rethrow()
    for (place, page) in zip(missing, targets) {
      page.stored = place.stored
      if state.isSealed(place.index) { place.stored.page = page }
      found.append((place.index, page))
    }
    for (index, page) in found { state.move(index, to: page) }
  }

  // MARK: - To a file

  /// Moves pages to the disk tier, the oldest first.
  ///
  /// A page that has not changed since it was stored is not written again.
  ///
  /// - Parameters:
  ///   - pages: Which of the layer's pages; -1 is the sink page.
  ///   - state: The layer.
  ///   - spill: The file.
  ///   - moved: How many left memory, whether this throws or not.
  /// - Throws: ``KVError/file(_:)`` or an exceeded limit of the tier; pages that were moved before stay moved.
  func spill(
    _ pages: Range<Int>,
    of state: inout LayerState,
    to spill: SpillFile,
    moved: inout Int
  ) throws(KVError) {
    if pages.upperBound == state.pages.count {
      // It is made again from the exact rows.
      state.ahead = nil
    }
    for index in pages {
      guard let page = state[page: index], let base = page.memory else { continue }
      let bytes = UnsafeRawBufferPointer(start: base, count: page.byteCount)
      let isSealed = state.isSealed(index)
      let stored: StoredPage
      if let known = page.stored {
        stored = known
      } else {
        stored = try spill.store(bytes, elementBytes: elementBytes(isSealed: isSealed))
        page.stored = stored
      }
      if isSealed { stored.page = page }
      state.move(index, to: Page(stored: stored))
      moved += 1
    }
  }

  /// Bytes of one number in pages of exact rows; 1 in pages of codes.
  func elementBytes(isSealed: Bool) -> Int {
    let strips =
      isSealed ? plan.rungs.flatMap { $0.keys + $0.values } : [plan.exactKeys, plan.exactValues]
    guard strips.allSatisfy(\.description.isExactRows) else { return 1 }
    return strips.allSatisfy { $0.description == .float32 } ? 4 : 2
  }
}
