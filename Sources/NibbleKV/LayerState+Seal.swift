import NibbleCodec
import NibblePolicy

/// Sealing: the oldest exact pages are encoded and their exact rows let go.
///
/// When a page is sealed follows from the number of tokens alone. Its strips may have been encoded before that, a few with
/// each small append, so that no token of a long decode waits for a whole page.
extension LayerWriter {
  /// Seals every page that is due.
  ///
  /// Pages are replaced only when all their strips are encoded.
  func sealOldPages(of state: inout LayerState) throws(KVError) {
    let due = geometry.sealablePages(of: state.tokenCount)
    guard due > state.sealedCount else { return }
    var ahead = try takeAhead(of: &state)
    let others = due - state.sealedCount - 1
    let size = plan.pageLayout.byteCount
    var targets = [ahead.page]
    if others > 0 { targets += try pool.take([size: others])[size] ?? [] }
    let strips = ahead.stripCount..<targets.count * stripsOfPage
    try encode(strips, of: state, means: &ahead.means) { targets[$0] }
    state.means = ahead.means
    for (offset, page) in targets.enumerated() {
      state.replace(state.sealedCount + offset, with: page)
    }
    state.sealedCount = due
    pool.telemetry.noteSealed(pages: targets.count)
  }

  /// Encodes as much of the page that will be sealed next as the number of tokens asks for.
  ///
  /// What fails here fails again, and is reported, when the page is due.
  func encodeAhead(of state: inout LayerState) {
    let wanted = geometry.stripsAhead(
      of: state.tokenCount,
      sealedPages: state.sealedCount,
      stripsOfPage: stripsOfPage,
      phase: phase
    )
    guard wanted > state.ahead?.stripCount ?? 0 else { return }
    do throws(KVError) {
      var ahead = try takeAhead(of: &state)
      let page = ahead.page
      try encode(ahead.stripCount..<wanted, of: state, means: &ahead.means) { _ in page }
      ahead.stripCount = wanted
      state.ahead = ahead
    } catch {}
  }

  /// Takes what has been encoded of the next page out of the state, or begins it.
  private func takeAhead(of state: inout LayerState) throws(KVError) -> PageAhead {
    guard var ahead = state.ahead.take() else {
      return PageAhead(page: try freshPage(), means: state.means ?? LayerMeans(plan: plan))
    }
    if isKnownUniquelyReferenced(&ahead.page) { return ahead }
    // A fork goes on with the same page.
    let page = try freshPage()
    page.base.update(from: ahead.page.base, count: page.byteCount)
    ahead.page = page
    return ahead
  }

  private func freshPage() throws(KVError) -> Page {
    let size = plan.pageLayout.byteCount
    guard let page = try pool.take([size: 1])[size]?.first else {
      throw .outOfMemory(bytes: size)
    }
    return page
  }

  private var stripsOfPage: Int { 2 * plan.pageLayout.heads.count }

  /// Encodes strips, counted from the first page that is not sealed in the order (page, KV head, keys before values).
  private func encode(
    _ strips: Range<Int>,
    of state: LayerState,
    means: inout LayerMeans?,
    into target: (_ page: Int) -> Page
  ) throws(KVError) {
    // In order, because a mean depends on the pages before.
    for strip in strips { learn(place(strip, of: state), &means) }
    let known = means
    func encodeStrip(_ strip: Int) throws(KVError) {
      do throws(CodecError) {
        let place = place(strip, of: state)
        try encode(place, means: known, into: target(strip / stripsOfPage))
      } catch {
        throw .codec(error)
      }
    }
    // Work for several threads takes memory, which a strip now and then must not.
    guard strips.count > 1 else {
      for strip in strips { try encodeStrip(strip) }
      return
    }
    let failure = FirstFailure()
    workers.run(items: strips.count) { item, _ in
      do throws(KVError) {
        try encodeStrip(strips.lowerBound + item)
      } catch {
        failure.record(error, item: item)
      }
    }
    try failure.rethrow()
  }

  // MARK: - One strip

  /// Exact rows of one KV head in one page.
  private struct Place {
    let page: Int
    let head: Int
    let side: KVSide
    let codec: StripCodec
    let exactCodec: StripCodec
    let exactCodes: UnsafeMutablePointer<UInt8>
  }

  private func place(_ strip: Int, of state: LayerState) -> Place {
    let page = state.sealedCount + strip / stripsOfPage
    let head = strip % stripsOfPage / 2
    let isKeys = strip % 2 == 0
    let offsets = plan.exactLayout.heads[head]
    return Place(
      page: page,
      head: head,
      side: isKeys ? .keys : .values,
      codec: isKeys ? plan.keys[head] : plan.values[head],
      exactCodec: isKeys ? plan.exactKeys : plan.exactValues,
      exactCodes: state.pages[page].base + (isKeys ? offsets.keyCodes : offsets.valueCodes)
    )
  }

  /// Adds the mean row of a strip to what is known.
  private func learn(_ place: Place, _ means: inout LayerMeans?) {
    guard means != nil, place.codec.description.removesMean else { return }
    scratch.withScratch { memory in
      // Exact rows have no side data, and decoding them cannot fail.
      try? place.exactCodec.decode(
        codes: place.exactCodes,
        side: place.exactCodes,
        mean: nil,
        into: memory.rows
      )
      memory.takeMean(tokens: place.codec.pageTokens, channels: place.codec.headDim)
      means?.learn(memory.mean, page: place.page, head: place.head, side: place.side)
    }
  }

  private func encode(_ place: Place, means: LayerMeans?, into target: Page) throws(CodecError) {
    let offsets = plan.pageLayout.heads[place.head]
    let isKeys = place.side == .keys
    let known = means?.means(ofPage: place.page)
    try scratch.withScratch { memory throws(CodecError) in
      try place.exactCodec.decode(
        codes: place.exactCodes,
        side: place.exactCodes,
        mean: nil,
        into: memory.rows
      )
      try place.codec.encode(
        prepared: memory.rows,
        mean: known?.mean(for: place.codec, head: place.head),
        codes: target.base + (isKeys ? offsets.keyCodes : offsets.valueCodes),
        side: target.base + (isKeys ? offsets.keySide : offsets.valueSide),
        scratch: &memory.strip
      )
      guard isKeys, let summary = offsets.summary else { return }
      place.codec.summarize(
        codes: target.base + offsets.keyCodes,
        side: target.base + offsets.keySide,
        rows: memory.rows,
        into: target.base + summary
      )
    }
  }
}
