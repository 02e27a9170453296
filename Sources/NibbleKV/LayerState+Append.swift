internal import CNibble
import NibbleCodec
import NibblePolicy

/// Appending: seal what has become old, then write the new rows.
struct LayerWriter {
  let plan: Plan.Layer
  let geometry: LayerGeometry
  let pool: PagePool
  let workers: Workers
  let scratch: SealScratchStore
  /// 0 ..< 1: shifts the work of one layer against that of another.
  let phase: Double

  /// Rows of one append: (tokens, kvHeads, headDim), already checked.
  struct Rows {
    let keys: UnsafePointer<Float>
    let values: UnsafePointer<Float>
    let count: Int
    let rowLength: Int

    func dropping(_ tokens: Int) -> Rows {
      Rows(
        keys: keys + tokens * rowLength,
        values: values + tokens * rowLength,
        count: count - tokens,
        rowLength: rowLength
      )
    }
  }

  /// Appends rows.
  ///
  /// If this throws, `state` is as it was but for pages that were due and have been sealed.
  func append(_ rows: Rows, to state: inout LayerState) throws(KVError) {
    // Its queries see what the window of the first new token shows.
    let behind = geometry.pagesBehindWindow(of: state.tokenCount)
    guard rows.count > AppendStep.tokens else {
      try appendStep(rows, to: &state)
      state.dropPages(behind)
      return
    }
    var changed = state  // shares the pages: the way back if a later step fails
    var rest = rows
    while rest.count > 0 {
      let count = min(rest.count, AppendStep.tokens)
      let step = Rows(
        keys: rest.keys,
        values: rest.values,
        count: count,
        rowLength: rest.rowLength
      )
      try appendStep(step, to: &changed)
      rest = rest.dropping(count)
    }
    state = changed
    state.dropPages(behind)
  }

  private func appendStep(_ rows: Rows, to state: inout LayerState) throws(KVError) {
    try sealOldPages(of: &state)
    try agePages(of: &state)
    let fresh = try prepare(rows.count, for: &state)
    write(rows, to: &state, fresh: fresh)
    // Prefill seals whole pages anyway, on all threads.
    if rows.count < geometry.pageTokens { encodeAhead(of: &state) }
  }

  // MARK: - Prepare

  private struct Fresh {
    var pages: [Page] = []
    var sinkPage: Page?
    /// The copy that replaces a page which other sequences share.
    var ownPage: Page?
  }

  private func prepare(_ count: Int, for state: inout LayerState) throws(KVError) -> Fresh {
    let after = state.tokenCount + count
    let newPages = geometry.pageCount(of: after) - state.pages.count
    let fillsSinks = geometry.sinkTokens(of: after) > geometry.sinkTokens(of: state.tokenCount)
    let sharesSinks = fillsSinks && !state.ownsSinkPage()
    let fillsLast = geometry.pagedTokens(of: state.tokenCount) % geometry.pageTokens > 0
    let sharesLast = fillsLast && !isOwnLast(&state)
    var wanted: [Int: Int] = [:]
    if newPages > 0 { wanted[plan.exactLayout.byteCount, default: 0] += newPages }
    if sharesLast { wanted[plan.exactLayout.byteCount, default: 0] += 1 }
    if sharesSinks { wanted[plan.sinkLayout.byteCount, default: 0] += 1 }
    guard !wanted.isEmpty else { return Fresh() }
    var pages = try pool.take(wanted)
    var fresh = Fresh()
    if sharesSinks { fresh.sinkPage = pages[plan.sinkLayout.byteCount]?.popLast() }
    if sharesLast { fresh.ownPage = pages[plan.exactLayout.byteCount]?.popLast() }
    fresh.pages = pages[plan.exactLayout.byteCount] ?? []
    return fresh
  }

  private func isOwnLast(_ state: inout LayerState) -> Bool {
    let last = state.pages.count - 1
    return isKnownUniquelyReferenced(&state.pages[last])
  }

  // MARK: - Write

  private func write(_ rows: Rows, to state: inout LayerState, fresh: Fresh) {
    var fresh = fresh
    if let page = fresh.sinkPage {
      if let old = state.sinkPage { page.base.update(from: old.base, count: page.byteCount) }
      state.setSinkPage(page)
    }
    if let page = fresh.ownPage {
      let last = state.pages.count - 1
      page.base.update(from: state.pages[last].base, count: page.byteCount)
      state.replace(last, with: page)
    }
    var rest = rows
    let sinkCount =
      geometry.sinkTokens(of: state.tokenCount + rows.count)
      - geometry.sinkTokens(of: state.tokenCount)
    if sinkCount > 0, let page = state.sinkPage {
      write(rest, count: sinkCount, at: state.tokenCount, in: page, layout: plan.sinkLayout)
      state.tokenCount += sinkCount
      rest = rest.dropping(sinkCount)
    }
    while rest.count > 0 {
      let offset = geometry.pagedTokens(of: state.tokenCount) % geometry.pageTokens
      if offset == 0, let page = fresh.pages.popLast() { state.append(page) }
      let page = state.pages[state.pages.count - 1]
      let count = min(rest.count, geometry.pageTokens - offset)
      write(rest, count: count, at: offset, in: page, layout: plan.exactLayout)
      state.tokenCount += count
      rest = rest.dropping(count)
    }
  }

  private func write(_ rows: Rows, count: Int, at token: Int, in page: Page, layout: PageLayout) {
    // What a file has of the page is no longer all of it.
    page.stored = nil
    for head in layout.heads.indices {
      let offsets = layout.heads[head]
      let dim = layout.keys[head].headDim
      layout.keys[head].writeRows(
        rows.keys + head * dim,
        stride: rows.rowLength,
        count: count,
        at: token,
        codes: page.base + offsets.keyCodes
      )
      layout.values[head].writeRows(
        rows.values + head * dim,
        stride: rows.rowLength,
        count: count,
        at: token,
        codes: page.base + offsets.valueCodes
      )
    }
  }
}
