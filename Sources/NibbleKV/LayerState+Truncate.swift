import NibbleCodec
import NibblePolicy

/// Cutting a layer off at a token.
extension LayerWriter {
  /// Bytes of the page that a cut to `tokens` needs: an exact one if it goes through a sealed one.
  func pageBytesNeeded(toTruncate state: LayerState, to tokens: Int) -> Int? {
    cutsSealedPage(state, at: tokens) ? plan.exactLayout.byteCount : nil
  }

  /// Throws if the window of the next token, after a cut to `tokens`, shows something that was dropped.
  func checkHeld(_ state: LayerState, layer: Int, after tokens: Int) throws(KVError) {
    guard !geometry.holds(state, after: tokens) else { return }
    throw .positionDropped(
      layer: layer,
      position: geometry.firstPositionSeen(after: tokens),
      firstHeld: geometry.firstHeldPosition(droppedPages: state.droppedCount)
    )
  }

  /// Forgets the tokens from `tokens` on.
  ///
  /// A sealed page that is cut is decoded into the exact `page`; its rows keep the
  /// error that sealing gave them, and may be sealed again.
  func truncate(_ state: inout LayerState, to tokens: Int, page: Page?) throws(KVError) {
    let kept = geometry.pageCount(of: tokens)
    if geometry.pagedTokens(of: tokens) / geometry.pageTokens <= state.sealedCount {
      // The page that is encoded ahead loses rows.
      state.ahead = nil
    }
    if cutsSealedPage(state, at: tokens), let page {
      try decode(page: kept - 1, of: state, into: page)
      state.keepPages(kept)
      state.replace(kept - 1, with: page)
      state.sealedCount = kept - 1
    } else {
      state.keepPages(kept)
      state.sealedCount = min(state.sealedCount, kept)
    }
    state.means?.keepPages(state.sealedCount)
    if state.sealedCount == 0 { state.means = nil }
    if tokens == 0 { state.setSinkPage(nil) }
    state.tokenCount = tokens
  }

  private func cutsSealedPage(_ state: LayerState, at tokens: Int) -> Bool {
    let paged = geometry.pagedTokens(of: tokens)
    return paged % geometry.pageTokens > 0 && paged / geometry.pageTokens < state.sealedCount
  }

  private func decode(page index: Int, of state: LayerState, into target: Page) throws(KVError) {
    let means = state.means?.means(ofPage: index)
    let rung = plan.rungs[state.rung(of: index)]
    try state.pages[index].withBytes { source throws(KVError) in
      try decode(source, of: rung, means: means, into: target)
    }
  }

  private func decode(
    _ source: UnsafePointer<UInt8>,
    of rung: Plan.Rung,
    means: StripMeans?,
    into target: Page
  ) throws(KVError) {
    let rows = UnsafeMutablePointer<Float>.allocate(capacity: plan.exactKeys.valueCount)
    defer { rows.deallocate() }
    do throws(CodecError) {
      for head in rung.pageLayout.heads.indices {
        let from = rung.pageLayout.heads[head]
        let to = plan.exactLayout.heads[head]
        try rung.keys[head].decode(
          codes: source + from.keyCodes,
          side: source + from.keySide,
          mean: means?.mean(for: rung.keys[head], head: head),
          into: rows
        )
        limit(rows, to: plan.exactKeys)
        plan.exactKeys.writePage(rows, codes: target.base + to.keyCodes)
        try rung.values[head].decode(
          codes: source + from.valueCodes,
          side: source + from.valueSide,
          mean: means?.mean(for: rung.values[head], head: head),
          into: rows
        )
        limit(rows, to: plan.exactValues)
        plan.exactValues.writePage(rows, codes: target.base + to.valueCodes)
      }
    } catch {
      throw .codec(error)
    }
  }

  /// Codes of the largest values may decode to a little more than exact rows can hold.
  func limit(_ rows: UnsafeMutablePointer<Float>, to codec: StripCodec) {
    let limit = codec.description.magnitudeLimit
    for index in 0..<codec.valueCount { rows[index] = min(max(rows[index], -limit), limit) }
  }
}
