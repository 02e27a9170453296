internal import NibbleCodec

extension Plan {
  /// Threads that an estimate accepts.
  public static let threadLimit = 256

  /// Sequences that an estimate accepts.
  public static let sequenceLimit = 65_536
  /// Tokens of all sequences together that an estimate accepts.
  public static let batchTokenLimit = 1 << 31

  /// What sequences of `context` tokens take in one cache at their largest, when they are fed in chunks.
  ///
  /// The first `sinks` tokens have a page of their own. A later page is exact until all its tokens
  /// are older than the `recent` newest ones; then the next append seals it. Slabs are not given
  /// back, so each kind of page counts with the largest number that lives at one time.
  ///
  /// - Parameters:
  ///   - context: Tokens of each sequence, 0 to ``ModelShape/tokenLimit``.
  ///   - chunk: Tokens of one append, 1 to ``ModelShape/tokenLimit``.
  ///   - threads: Threads, 1 to ``threadLimit``.
  ///   - sequences: Sequences of that context, 1 to ``sequenceLimit``, ``batchTokenLimit`` tokens together.
  ///   - shared: Tokens that all of them begin with, 0 to `context`: they are forks of one sequence that had so many, or continue
  ///     a remembered one.
  /// - Returns: The bytes, part by part.
  /// - Throws: ``PolicyError`` if an argument is out of its range.
  /// - Complexity: O(`layers` · `kvHeads` + `pageTokens`).
  public func estimate(
    context: Int,
    chunk: Int = 512,
    threads: Int,
    sequences: Int = 1,
    shared: Int = 0
  ) throws(PolicyError) -> MemoryEstimate {
    try check(context, "context", in: 0...ModelShape.tokenLimit)
    try check(chunk, "chunk", in: 1...ModelShape.tokenLimit)
    try check(threads, "threads", in: 1...Self.threadLimit)
    try check(sequences, "number of sequences", in: 1...Self.sequenceLimit)
    try check(context * sequences, "number of all sequences' tokens", in: 0...Self.batchTokenLimit)
    try check(shared, "number of shared tokens", in: 0...context)

    let dropping = shape.slidingWindows.map { window in
      window.map { pagesBehind($0, context: context, chunk: chunk) } ?? (dropped: 0, late: 0)
    }
    // A longer append is taken in steps; until it ends, the tail that it began with is kept as the way back.
    let isStepped = min(chunk, context) > AppendStep.tokens
    let chunk = min(chunk, AppendStep.tokens)
    let before = Self.lastAppend(of: context, chunk: chunk)
    let common = Self.lastAppend(of: shared, chunk: chunk)
    let sealed = sealedPages(before: before)
    let tailPages = mostTailPages(context: context, chunk: chunk) * sequences
    let ahead = pagesAhead(context: context, chunk: chunk, sealed: sealed) * sequences
    let sinkPages = policy.sinks == 0 || context == 0 ? 0 : shared >= policy.sinks ? 1 : sequences

    var estimate = MemoryEstimate()
    var pages = PageCounts()
    var sealedPages = 0
    for (index, layer) in layers.enumerated() {
      let held = min(dropping[index].dropped, sealed)..<sealed
      sealedPages += held.count
      let then = rungRanges(layer, tokens: common, held: 0..<self.sealedPages(before: common))
      for (rung, range) in rungRanges(layer, tokens: before, held: held).enumerated() {
        // Pages that were sealed before the sequences parted, and have not aged since, are one.
        let count = range.count * sequences - range.clamped(to: then[rung]).count * (sequences - 1)
        estimate.addSealed(layer.rungs[rung], pages: count)
        pages.add(count, of: layer.rungs[rung].pageLayout.byteCount)
      }
      estimate.addMeans(layer, pages: sealed, sequences: sequences)
      estimate.tail += tailPages * layer.exactLayout.byteCount
      estimate.tail += ahead * layer.pageLayout.byteCount
      pages.add(ahead, of: layer.pageLayout.byteCount)
      pages.add(tailPages, of: layer.exactLayout.byteCount)
      estimate.sinks += sinkPages * layer.sinkLayout.byteCount
      pages.add(sinkPages, of: layer.sinkLayout.byteCount)
    }
    // One sequence appends to one layer at a time, and lets go of what is behind its window when that is done.
    let late = layers.indices.map { ($0, dropping[$0].late * layers[$0].pageLayout.byteCount) }
    if let (index, bytes) = late.max(by: { $0.1 < $1.1 }), bytes > 0,
      let rung = layers[index].rungs.last
    {
      estimate.addSealed(rung, pages: dropping[index].late)
      pages.add(dropping[index].late, of: rung.pageLayout.byteCount)
    }
    if isStepped, let page = layers.map(\.exactLayout.byteCount).max() {
      estimate.tail += tailPages / sequences * page
      pages.add(tailPages / sequences, of: page)
    }
    // Each age leaves a slab that is not full.
    let ages = layers.map { $0.rungs.count - 1 }.max() ?? 0
    estimate.slack = pages.slackBytes(partial: ages)
    estimate.scratch = scratchBytes(
      context: context,
      chunk: chunk,
      threads: threads,
      sequences: sequences
    )
    estimate.context = context
    estimate.sequences = sequences
    estimate.float16Bytes = context * sequences * valuesPerToken * 2
    let isCompressed = entries.contains { !$0.codec.isExactRows }
    let most = sealed - min(sealed, dropping.map(\.dropped).min() ?? 0)
    estimate.compressedTokens = isCompressed ? most * policy.pageTokens * sequences : 0
    let pageBytes = estimate.codes + estimate.tables + estimate.scales
    let values = sealedPages * sequences * policy.pageTokens * valuesPerToken / layers.count
    estimate.bitsPerValue =
      values == 0 ? bitsPerValue : Double(pageBytes * 8) / Double(values)
    return estimate
  }

  /// Tokens that the last append finds.
  private static func lastAppend(of tokens: Int, chunk: Int) -> Int {
    tokens == 0 ? 0 : (tokens - 1) / chunk * chunk
  }

  /// Pages of a layer that lie behind its sliding window when the last append is done, and those of them that it lets go of only then.
  private func pagesBehind(_ window: Int, context: Int, chunk: Int) -> (dropped: Int, late: Int) {
    func behind(_ tokens: Int) -> Int {
      WindowSchedule.droppedPages(
        tokens: tokens,
        window: window,
        sinks: policy.sinks,
        recent: policy.recent,
        pageTokens: policy.pageTokens
      )
    }
    let begun = Self.lastAppend(of: context, chunk: chunk)
    return (behind(begun), behind(begun) - behind(begun - chunk))
  }

  /// Which of a layer's sealed pages, those of `held`, have which age when there are `tokens`.
  private func rungRanges(_ layer: Layer, tokens: Int, held: Range<Int>) -> [Range<Int>] {
    // Old pages come first: those of a rung end where the ones that have not reached it begin.
    let ends = layer.rungs.map { rung in
      let reached =
        rung.beyond == 0
        ? held.upperBound : max(0, tokens - policy.sinks - rung.beyond) / policy.pageTokens
      return min(max(reached, held.lowerBound), held.upperBound)
    }
    return ends.indices.map { index in
      let older = index + 1 < ends.count ? ends[index + 1] : held.lowerBound
      return min(older, ends[index])..<ends[index]
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

  fileprivate mutating func addMeans(_ layer: Plan.Layer, pages: Int, sequences: Int) {
    let bytes = (layer.keys + layer.values).reduce(0) {
      $0 + ($1.description.removesMean ? $1.headDim * 4 : 0)
    }
    scales += MeanSchedule.count(pages: pages) * bytes * sequences
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

  /// What the slabs hold beyond their pages: what does not divide them, the last one's rest, one more for holes if there are
  /// several sizes, and `partial` more.
  func slackBytes(partial: Int) -> Int {
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
    let slabs = (used + slabBytes - 1) / slabBytes + (counts.count > 1 ? 1 : 0) + partial
    return slabs * slabBytes - bytes
  }
}
