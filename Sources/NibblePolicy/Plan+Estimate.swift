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
    let before = context == 0 ? 0 : (context - 1) / chunk * chunk
    let sealed = sealedPages(before: before)
    let tailPages = mostTailPages(context: context, chunk: chunk)
    let ahead = pagesAhead(context: context, chunk: chunk, sealed: sealed)
    let hasSinks = policy.sinks > 0 && context > 0

    var estimate = MemoryEstimate()
    var pages = PageCounts()
    var sealedPages = 0
    for (index, layer) in layers.enumerated() {
      let held = max(0, sealed - dropped[index])
      sealedPages += held
      for (rung, count) in rungCounts(layer, tokens: before, sealed: sealed, held: held) {
        estimate.addSealed(rung, pages: count)
        pages.add(count, of: rung.pageLayout.byteCount)
      }
      estimate.addMeans(layer, pages: sealed)
      estimate.tail += tailPages * layer.exactLayout.byteCount
      estimate.tail += ahead * layer.pageLayout.byteCount
      pages.add(ahead, of: layer.pageLayout.byteCount)
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

  /// How many of a layer's sealed pages have which age.
  private func rungCounts(
    _ layer: Layer,
    tokens: Int,
    sealed: Int,
    held: Int
  ) -> [(rung: Rung, pages: Int)] {
    // Of each rung, the pages that are at least as old, as far as they are held.
    let counts = layer.rungs.map { rung in
      let reached =
        rung.beyond == 0
        ? sealed : max(0, tokens - policy.sinks - rung.beyond) / policy.pageTokens
      return max(0, reached - (sealed - held))
    }
    return layer.rungs.indices.map { index in
      let older = index + 1 < counts.count ? counts[index + 1] : 0
      return (layer.rungs[index], max(0, counts[index] - older))
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
  fileprivate mutating func addSealed(_ rung: Plan.Rung, pages: Int) {
    let strips = rung.keys + rung.values
    let tableBytes = strips.reduce(0) { $0 + $1.bytes.tables }
    let scaleBytes = strips.reduce(0) { $0 + $1.bytes.scales }
    let summaryBytes = rung.pageLayout.summaryBytes
    codes += pages * (rung.pageLayout.byteCount - tableBytes - scaleBytes - summaryBytes)
    tables += pages * tableBytes
    scales += pages * (scaleBytes + summaryBytes)
  }

  fileprivate mutating func addMeans(_ layer: Plan.Layer, pages: Int) {
    let bytes = (layer.keys + layer.values).reduce(0) {
      $0 + ($1.description.removesMean ? $1.headDim * 4 : 0)
    }
    scales += MeanSchedule.count(pages: pages) * bytes
  }
}

/// Pages by their size.
///
/// Pages of all sizes share slabs.
private struct PageCounts {
  private var counts: [Int: Int] = [:]

  mutating func add(_ pages: Int, of pageBytes: Int) {
    guard pages > 0 else { return }
    counts[pageBytes, default: 0] += pages
  }

  /// What the slabs hold beyond their pages: what does not divide them, the last one's rest, and one more for holes if there are
  /// several sizes.
  var slackBytes: Int {
    var slabBytes = SlabGeometry.hugePageBytes
    var bytes = 0
    var used = 0
    for (pageBytes, pages) in counts {
      let slab = SlabGeometry.slabBytes(pageBytes: pageBytes)
      let perSlab = SlabGeometry.pagesPerSlab(pageBytes: pageBytes)
      used += (pages * slab + perSlab - 1) / perSlab
      bytes += pages * pageBytes
      slabBytes = max(slabBytes, slab)
    }
    guard bytes > 0 else { return 0 }
    let slabs = (used + slabBytes - 1) / slabBytes + (counts.count > 1 ? 1 : 0)
    return slabs * slabBytes - bytes
  }
}
