internal import CNibble
import NibbleCodec
import NibblePolicy

/// Runs of pages: what the kernels take at a time.
extension AttentionCall {
  /// Attends over pages of one kind that share their means, and adds the result to the item's rows.
  ///
  /// Pages that are in memory go to the kernels together; where one is not, all go one by one, which changes no bit of the result.
  /// The sink page is page -1.
  func run(
    pages: Range<Int>,
    of kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) throws(KVError) {
    let means = means(of: kind, page: pages.lowerBound, head: item.head)
    fillBias(means.keys, rows: item.rowCount, memory)
    var rows = rows(of: kind, item, memory, hasBias: means.keys != nil, after: combined)
    if isInMemory(pages) {
      var run = kernelRun(pages, of: kind, head: item.head)
      run.next_count = Int32(nextCount(after: pages, of: kind))
      if run.next_count == 0, let following = following(pages, head: item.head) {
        run.following = following.baseAddress
        run.following_bytes = Int32(following.count)
      }
      withAddresses(of: pages) { attend(&run, $0, &rows, memory) }
    } else {
      try runOneByOne(pages, of: kind, item, memory, &rows)
    }
    if let skip = rows.skip { kernels.skipping?.count(skip.pointee) }
    add(memory, of: kind, item, valueMean: means.values, to: combined)
  }

  private func runOneByOne(
    _ pages: Range<Int>,
    of kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    _ rows: inout nibble_rows
  ) throws(KVError) {
    memory.resetPartial(rows: item.rowCount, padded: padded)
    for page in visible(pages, to: item, memory) {
      let base = try bytes(of: page, kind, head: item.head, memory)
      var run = kernelRun(page..<page + 1, of: kind, head: item.head)
      run.resumes = true
      withAddress(base) { attend(&run, $0, &rows, memory) }
    }
  }

  /// Pages of a host's codec: each is decoded and attended to by itself.
  func runDecoded(
    _ pages: Range<Int>,
    rung: Int,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) throws(KVError) {
    let kind = LayerKernels.PageKind.decoded(rung)
    for page in visible(pages, to: item, memory) {
      let decoded = try decode(page: page, rung: rung, head: item.head, memory)
      let means = means(of: kind, page: page, head: item.head)
      fillBias(means.keys, rows: item.rowCount, memory)
      var rows = rows(of: kind, item, memory, hasBias: means.keys != nil, after: combined)
      var run = kernelRun(page..<page + 1, of: kind, head: item.head)
      withAddress(decoded) { attend(&run, $0, &rows, memory) }
      add(memory, of: kind, item, valueMean: means.values, to: combined)
    }
  }

  // MARK: - What the kernels take

  private typealias Addresses = UnsafePointer<UnsafePointer<UInt8>?>

  private func attend(
    _ run: inout nibble_run,
    _ addresses: Addresses,
    _ rows: inout nibble_rows,
    _ memory: WorkerScratch
  ) {
    run.pages = addresses
    var partial = nibble_partial(
      maximum: memory.maximum,
      sum: memory.sum,
      accumulator: memory.accumulator
    )
    nibble_attend(&run, &rows, &partial, memory.kernel)
  }

  private func kernelRun(
    _ pages: Range<Int>,
    of kind: LayerKernels.PageKind,
    head: Int
  ) -> nibble_run {
    let offsets = kernels.offsets(kind, head: head)
    var run = nibble_run()
    run.page_count = Int32(pages.count)
    run.last_page_tokens = Int32(tokens(ofPage: pages.upperBound - 1))
    run.first_position = Int64(position(ofPage: pages.lowerBound))
    run.keys = kernels.keyStrip(kind, head: head)
    run.values = kernels.valueStrip(kind, head: head)
    run.key_codes = offsets.keyCodes
    run.key_side = offsets.keySide
    run.value_codes = offsets.valueCodes
    run.value_side = offsets.valueSide
    return run
  }

  private func rows(
    of kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    hasBias: Bool,
    after combined: CombinedRows
  ) -> nibble_rows {
    let isTransformed = transformQueries(for: kind, item, memory)
    return nibble_rows(
      count: Int32(item.rowCount),
      queries: isTransformed ? memory.transformedQueries : memory.queries,
      positions: memory.positions,
      bias: hasBias ? UnsafePointer(memory.bias) : nil,
      window: Int64(min(options.window ?? 0, state.tokenCount)),
      scale: options.scale ?? 1 / Float(dim).squareRoot(),
      soft_cap: options.softCap ?? 0,
      skip: skip(kind, item, memory, after: combined)
    )
  }

  private func means(
    of kind: LayerKernels.PageKind,
    page: Int,
    head: Int
  ) -> (keys: [Float]?, values: [Float]?) {
    guard let rung = kind.rung.map({ kernels.plan.rungs[$0] }) else { return (nil, nil) }
    let means = state.means?.means(ofPage: page)
    let (keys, values) = (rung.keys[head], rung.values[head])
    return (
      means?.mean(for: keys, head: head) ?? keys.fixedMean,
      means?.mean(for: values, head: head) ?? values.fixedMean
    )
  }

  /// Turns the queries into the space of a rung's keys; `false` if that is the model's own.
  private func transformQueries(
    for kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    _ memory: WorkerScratch
  ) -> Bool {
    guard let rung = kind.rung else { return false }
    let keys = kernels.plan.rungs[rung].keys[item.head]
    guard keys.description.rotation != .none else { return false }
    if memory.transformedRung != rung {
      keys.transform(
        queries: memory.queries,
        count: item.rowCount,
        into: memory.transformedQueries
      )
      memory.transformedRung = rung
    }
    return true
  }

  /// What the mean of the keys adds to each row's scores.
  private func fillBias(_ mean: [Float]?, rows: Int, _ memory: WorkerScratch) {
    mean?.withUnsafeBufferPointer { mean in
      for row in 0..<rows {
        memory.bias[row] = nibble_dot(memory.queries + row * dim, mean.baseAddress, dim)
      }
    }
  }

  private func add(
    _ memory: WorkerScratch,
    of kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    valueMean: [Float]?,
    to combined: CombinedRows
  ) {
    let rotation = kind.rung.map { kernels.plan.rungs[$0].values[item.head].description.rotation }
    add(
      memory,
      rows: item.rowCount,
      isTransformed: rotation ?? .none != .none,
      mean: valueMean,
      to: combined
    )
  }
}

// MARK: - Where pages are

extension AttentionCall {
  private func position(ofPage page: Int) -> Int {
    let geometry = kernels.geometry
    return page < 0 ? 0 : geometry.sinks + page * geometry.pageTokens
  }

  /// Tokens that a page has by now.
  private func tokens(ofPage page: Int) -> Int {
    let geometry = kernels.geometry
    guard page >= 0 else { return geometry.sinkTokens(of: state.tokenCount) }
    return min(geometry.pageTokens, state.tokenCount - position(ofPage: page))
  }

  /// Pages of which some row of the item sees something.
  private func visible(
    _ pages: Range<Int>,
    to item: Cut.Item,
    _ memory: WorkerScratch
  ) -> Range<Int> {
    let first = Int(memory.positions[0]) - (options.window ?? state.tokenCount)
    let last = Int(memory.positions[item.rowCount - 1])
    var low = pages.lowerBound
    while low < pages.upperBound, position(ofPage: low) + tokens(ofPage: low) <= first { low += 1 }
    var high = pages.upperBound
    while high > low, position(ofPage: high - 1) > last { high -= 1 }
    return low..<high
  }

  private func isInMemory(_ pages: Range<Int>) -> Bool {
    state.storedCount == 0 || pages.allSatisfy { !(state[page: $0]?.isStoredOnly ?? false) }
  }

  /// Pages of the same kind that follow, which the next item will read: as many as the kernels look ahead.
  private func nextCount(after pages: Range<Int>, of kind: LayerKernels.PageKind) -> Int {
    guard pages.lowerBound >= 0 else { return 0 }
    let following = pages.upperBound..<pages.upperBound + Int(NIBBLE_NEXT_PAGES)
    return following.prefix { next in
      if let rung = kind.rung {
        guard next < state.sealedCount, state.rung(of: next) == rung else { return false }
      }
      return next < state.pages.count && state.pages[next].memory != nil
    }.count
  }

  /// One head's bytes of the page after these, of whatever kind it is; `nil` if there is none in memory.
  private func following(_ pages: Range<Int>, head: Int) -> UnsafeBufferPointer<UInt8>? {
    let next = pages.upperBound
    guard next < state.pages.count, let base = state.pages[next].memory else { return nil }
    let isSealed = next < state.sealedCount
    let kind: LayerKernels.PageKind = isSealed ? .sealed(state.rung(of: next)) : .exact
    let range = kernels.byteRange(kind, head: head)
    return UnsafeBufferPointer(start: base + range.lowerBound, count: range.count)
  }

  private func withAddress(_ base: UnsafePointer<UInt8>, _ body: (Addresses) -> Void) {
    withUnsafePointer(to: UnsafePointer<UInt8>?(base), body)
  }

  /// The addresses of pages that are in memory.
  private func withAddresses(of pages: Range<Int>, _ body: (Addresses) -> Void) {
    guard pages.lowerBound >= 0 else {
      if let base = state.sinkPage?.memory { withAddress(base, body) }
      return
    }
    state.addresses.withUnsafeBufferPointer { addresses in
      guard let base = addresses.baseAddress else { return }
      // An Address is one pointer and nothing else.
      let raw = UnsafeRawPointer(base + pages.lowerBound)
      body(raw.assumingMemoryBound(to: UnsafePointer<UInt8>?.self))
    }
  }

  /// A page with the bytes of one head, which are read if they are not in memory.
  private func bytes(
    of page: Int,
    _ kind: LayerKernels.PageKind,
    head: Int,
    _ memory: WorkerScratch
  ) throws(KVError) -> UnsafePointer<UInt8> {
    guard let page = state[page: page] else { preconditionFailure("there is no such page") }
    if let base = page.memory { return UnsafePointer(base) }
    guard let stored = page.stored else { preconditionFailure("the page was dropped") }
    let target = memory.loadedPage(bytes: page.byteCount)
    try stored.read(kernels.byteRange(kind, head: head), into: target)
    return UnsafePointer(target)
  }

  /// One head's strips of a host's codec as exact rows.
  private func decode(
    page: Int,
    rung: Int,
    head: Int,
    _ memory: WorkerScratch
  ) throws(KVError) -> UnsafePointer<UInt8> {
    let base = try bytes(of: page, .sealed(rung), head: head, memory)
    let keys = kernels.plan.rungs[rung].keys[head]
    let values = kernels.plan.rungs[rung].values[head]
    let source = kernels.offsets(.sealed(rung), head: head)
    let target = kernels.offsets(.decoded(rung), head: head)
    let (decoded, rows) = memory.decodedPage(
      bytes: kernels.decodedByteCount(head: head),
      values: keys.valueCount
    )
    let tokens = Int32(kernels.geometry.pageTokens)
    do throws(CodecError) {
      try keys.decodeCoded(codes: base + source.keyCodes, side: base + source.keySide, into: rows)
      let keyStrip = kernels.keyStrip(.decoded(rung), head: head)
      nibble_write_rows(keyStrip, decoded + target.keyCodes, 0, tokens, rows, dim)
      try values.decodeCoded(
        codes: base + source.valueCodes,
        side: base + source.valueSide,
        into: rows
      )
      let valueStrip = kernels.valueStrip(.decoded(rung), head: head)
      nibble_write_rows(valueStrip, decoded + target.valueCodes, 0, tokens, rows, dim)
    } catch {
      throw .codec(error)
    }
    return UnsafePointer(decoded)
  }
}
