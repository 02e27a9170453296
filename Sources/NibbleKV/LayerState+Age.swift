import NibbleCodec
import NibblePolicy

/// Ages: sealed pages are encoded again, to fewer bits.
///
/// A page is decoded, with the error that it has, and encoded as the next rung of the plan. The oldest pages go first, so the pages of a
/// rung are a stretch.
extension LayerWriter {
  /// Encodes every page again that has reached an age.
  ///
  /// When that is follows from the number of tokens alone.
  ///
  /// - Throws: ``KVError``; the pages before the one that failed have been encoded again, which changes nothing else.
  func agePages(of state: inout LayerState) throws(KVError) {
    for index in plan.rungs.indices.dropFirst() {
      let due = min(
        state.sealedCount,
        geometry.agedPages(of: state.tokenCount, rung: plan.rungs[index])
      )
      while state.agedCount(rung: index) < due {
        try agePage(of: &state, to: index, makesRoom: true)
      }
    }
  }

  /// Encodes some of the oldest pages again before their time, if the memory that is free allows it.
  ///
  /// - Returns: How many.
  func ageEarly(_ state: inout LayerState) -> Int {
    var count = 0
    for index in plan.rungs.indices.dropFirst() {
      // Not more than a slab's worth: each caller looks whether there is room now.
      let size = plan.rungs[index - 1].pageLayout.byteCount
      let most = count + SlabGeometry.pagesPerSlab(pageBytes: size)
      while count < most,
        state.agedCount(rung: index) < state.agedCount(rung: index - 1)
      {
        guard (try? agePage(of: &state, to: index, makesRoom: false)) != nil else { break }
        count += 1
      }
    }
    return count
  }

  /// Takes the first page that has not reached a rung there.
  private func agePage(
    of state: inout LayerState,
    to index: Int,
    makesRoom: Bool
  ) throws(KVError) {
    let page = state.agedCount(rung: index)
    if page >= state.droppedCount {
      let size = plan.rungs[index].pageLayout.byteCount
      let fresh = try pool.take([size: 1], makesRoom: makesRoom)[size]?.first
      guard let fresh else { throw .outOfMemory(bytes: size) }
      try encodeAgain(page, of: state, to: plan.rungs[index], into: fresh)
      state.replace(page, with: fresh)
    }
    state.agedCounts += Array(repeating: 0, count: max(0, index - state.agedCounts.count))
    state.agedCounts[index - 1] = page + 1
  }

  private func encodeAgain(
    _ page: Int,
    of state: LayerState,
    to target: Plan.Rung,
    into fresh: Page
  ) throws(KVError) {
    let source = plan.rungs[state.rung(of: page)]
    let means = state.means?.means(ofPage: page)
    try state.pages[page].withBytes { bytes throws(KVError) in
      let failure = FirstFailure()
      workers.run(items: 2 * target.keys.count) { item, _ in
        do throws(CodecError) {
          try encodeAgain(
            bytes,
            from: source,
            to: target,
            head: item / 2,
            side: item % 2 == 0 ? .keys : .values,
            means: means,
            into: fresh
          )
        } catch {
          failure.record(.codec(error), item: item)
        }
      }
      try failure.rethrow()
    }
  }

  private func encodeAgain(
    _ bytes: UnsafePointer<UInt8>,
    from source: Plan.Rung,
    to target: Plan.Rung,
    head: Int,
    side: KVSide,
    means: StripMeans?,
    into fresh: Page
  ) throws(CodecError) {
    let isKeys = side == .keys
    let (old, new) = (source.pageLayout.heads[head], target.pageLayout.heads[head])
    let decoder = isKeys ? source.keys[head] : source.values[head]
    let encoder = isKeys ? target.keys[head] : target.values[head]
    try scratch.withScratch { memory throws(CodecError) in
      try decoder.decode(
        codes: bytes + (isKeys ? old.keyCodes : old.valueCodes),
        side: bytes + (isKeys ? old.keySide : old.valueSide),
        mean: means?.mean(for: decoder, head: head),
        into: memory.rows
      )
      limit(memory.rows, to: encoder)
      try encoder.encode(
        prepared: memory.rows,
        mean: means?.mean(for: encoder, head: head),
        codes: fresh.base + (isKeys ? new.keyCodes : new.valueCodes),
        side: fresh.base + (isKeys ? new.keySide : new.valueSide),
        scratch: &memory.strip
      )
      guard isKeys, let summary = new.summary else { return }
      encoder.summarize(
        codes: fresh.base + new.keyCodes,
        side: fresh.base + new.keySide,
        rows: memory.rows,
        into: fresh.base + summary
      )
    }
  }
}
