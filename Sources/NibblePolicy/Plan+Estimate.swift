internal import NibbleCodec

extension Plan {
  /// Threads that an estimate accepts.
  public static let threadLimit = 256

  /// What a sequence of `context` tokens takes at its largest, when it is fed in chunks.
  ///
  /// The first `sinks` tokens have a page of their own. A later page is exact until all its tokens
  /// are older than the `recent` newest ones; then the next append seals it. Slabs are not given
  /// back, so each kind of page counts with the largest number that lives at one time.
  ///
  /// - Parameters:
  ///   - context: Tokens, 0 to ``ModelShape/tokenLimit``.
  ///   - chunk: Tokens of one append, 1 to ``ModelShape/tokenLimit``.
  ///   - threads: Threads, 1 to ``threadLimit``.
  /// - Returns: The bytes, part by part.
  /// - Throws: ``PolicyError`` if an argument is out of its range.
  /// - Complexity: O(`layers` · `kvHeads` + `pageTokens`).
  public func estimate(
    context: Int,
    chunk: Int = 512,
    threads: Int
  ) throws(PolicyError) -> MemoryEstimate {
    try check(context, "context", in: 0...ModelShape.tokenLimit)
    try check(chunk, "chunk", in: 1...ModelShape.tokenLimit)
    try check(threads, "threads", in: 1...Self.threadLimit)

    let dropped = droppedPages(context: context, chunk: chunk)
    // A longer append is taken in steps; until it ends, the tail that it began with is kept as the way back.
    let isStepped = min(chunk, context) > AppendStep.tokens
    let chunk = min(chunk, AppendStep.tokens)
    let sealed = sealedPages(before: context == 0 ? 0 : (context - 1) / chunk * chunk)
    let tailPages = mostTailPages(context: context, chunk: chunk)
    let ahead = pagesAhead(context: context, chunk: chunk, sealed: sealed)
    let hasSinks = policy.sinks > 0 && context > 0

    var estimate = MemoryEstimate()
    var pages = PageCounts()
    var sealedPages = 0
    for (index, layer) in layers.enumerated() {
      let held = max(0, sealed - dropped[index])
      sealedPages += held
      estimate.addSealed(layer, pages: held, of: sealed)
      estimate.tail += tailPages * layer.exactLayout.byteCount
      estimate.tail += ahead * layer.pageLayout.byteCount
      pages.add(held + ahead, of: layer.pageLayout.byteCount)
      pages.add(tailPages, of: layer.exactLayout.byteCount)
      if hasSinks {
        estimate.sinks += layer.sinkLayout.byteCount
        pages.add(1, of: layer.sinkLayout.byteCount)
      }
    }
    if isStepped, let page = layers.map(\.exactLayout.byteCount).max() {
      estimate.tail += tailPages * page
      pages.add(tailPages, of: page)
    }
    estimate.slack = pages.slackBytes
    estimate.scratch = scratchBytes(context: context, chunk: chunk, threads: threads)
    estimate.context = context
    estimate.float16Bytes = context * valuesPerToken * 2
    let isCompressed = entries.contains { !$0.codec.isExactRows }
    let most = sealed - (dropped.min() ?? 0)
    estimate.compressedTokens = isCompressed ? max(0, most) * policy.pageTokens : 0
    let pageBytes = estimate.codes + estimate.tables + estimate.scales
    let values = sealedPages * policy.pageTokens * valuesPerToken / layers.count
    estimate.bitsPerValue =
      values == 0 ? bitsPerValue : Double(pageBytes * 8) / Double(values)
    return estimate
  }

  /// Pages of each layer that lie behind its sliding window while the last append is written.
  ///
  /// An append drops what was behind when it began, and does so when it is done.
  private func droppedPages(context: Int, chunk: Int) -> [Int] {
    let begun = context == 0 ? 0 : (context - 1) / chunk * chunk
    return shape.slidingWindows.map { window in
      guard let window else { return 0 }
      return WindowSchedule.droppedPages(
        tokens: begun - chunk,
        window: window,
        sinks: policy.sinks,
        recent: policy.recent,
        pageTokens: policy.pageTokens
      )
    }
  }

  /// Pages that the next append finds sealed or seals, when `tokens` are there before it.
  private func sealedPages(before tokens: Int) -> Int {
    max(0, tokens - policy.sinks - policy.recent) / policy.pageTokens
  }

  /// Pages that small appends begin to encode before they are due.
  private func pagesAhead(context: Int, chunk: Int, sealed: Int) -> Int {
    guard chunk < policy.pageTokens else { return 0 }
    let span = min(policy.recent, policy.pageTokens)
    guard span > 0 else { return 0 }
    return min(1, max(0, sealedPages(before: context + span) - sealed))
  }

  /// The most exact pages that one layer holds after any append.
  ///
  /// Once pages are being sealed the count repeats after at most `pageTokens` appends, and before
  /// that it only grows; so the last appends decide.
  private func mostTailPages(context: Int, chunk: Int) -> Int {
    let appends = (context + chunk - 1) / chunk
    var most = 0
    for append in max(0, appends - policy.pageTokens - 1)..<max(appends, 0) {
      let before = append * chunk
      let after = min(context, before + chunk)
      let begun =
        (max(0, after - policy.sinks) + policy.pageTokens - 1) / policy.pageTokens
      most = max(most, begun - sealedPages(before: before))
    }
    return most
  }

  private func check(
    _ value: Int,
    _ what: String,
    in range: ClosedRange<Int>
  ) throws(PolicyError) {
    guard range.contains(value) else {
      let limits = "expected \(range.lowerBound) to \(range.upperBound)"
      throw PolicyError("estimate: \(what) is \(value); \(limits)")
    }
  }
}

extension MemoryEstimate {
  /// Adds `pages` sealed pages, what is held of `sealed`.
  fileprivate mutating func addSealed(_ layer: Plan.Layer, pages: Int, of sealed: Int) {
    guard pages > 0 else { return }
    let strips = layer.keys + layer.values
    let tableBytes = strips.reduce(0) { $0 + $1.bytes.tables }
    let scaleBytes = strips.reduce(0) { $0 + $1.bytes.scales }
    let meanBytes = strips.reduce(0) { $0 + ($1.description.removesMean ? $1.headDim * 4 : 0) }
    let summaryBytes = layer.pageLayout.summaryBytes
    codes += pages * (layer.pageLayout.byteCount - tableBytes - scaleBytes - summaryBytes)
    tables += pages * tableBytes
    scales += pages * (scaleBytes + summaryBytes) + MeanSchedule.count(pages: sealed) * meanBytes
  }
}

/// Pages by their size.
///
/// Pages of one size share slabs, whatever they hold.
private struct PageCounts {
  private var counts: [Int: Int] = [:]

  mutating func add(_ pages: Int, of pageBytes: Int) {
    counts[pageBytes, default: 0] += pages
  }

  /// What the slabs hold beyond their pages.
  var slackBytes: Int {
    counts.reduce(0) { slack, kind in
      let (pageBytes, pages) = kind
      let perSlab = SlabGeometry.pagesPerSlab(pageBytes: pageBytes)
      let slabs = (pages + perSlab - 1) / perSlab
      return slack + slabs * SlabGeometry.slabBytes(pageBytes: pageBytes) - pages * pageBytes
    }
  }
}
