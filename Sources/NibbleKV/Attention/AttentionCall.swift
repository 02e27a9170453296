internal import CNibble
import NibbleCodec
import NibblePolicy

/// Attention of one sequence: a layer's newest queries over its sink page, sealed pages and exact pages.
///
/// Work is cut into items of (KV head, block of query tokens, segment of pages). The cut depends on shapes alone and
/// results are combined in the order of the segments, so neither the number of threads nor what else is computed at the
/// same time ever changes the output.
struct AttentionCall {
  let layer: Int
  let kernels: LayerKernels
  let state: LayerState
  let shape: ModelShape
  let options: AttentionOptions
  let queries: UnsafePointer<Float>
  let queryTokens: Int
  let output: UnsafeMutablePointer<Float>

  /// Checks the input of a call; `nil` if there are no queries.
  ///
  /// Errors name `sequence`, which of several it is.
  init?(
    cache: KVCache,
    state: LayerState,
    queries: UnsafeBufferPointer<Float>,
    layer: Int,
    options: AttentionOptions,
    output: UnsafeMutableBufferPointer<Float>,
    sequence: Int? = nil
  ) throws(KVError) {
    queryTokens = try AttendCheck.check(
      queries: queries,
      output: output.count,
      layer: layer,
      tokens: state.tokenCount,
      shape: cache.shape,
      options: options,
      sequence: sequence
    )
    guard queryTokens > 0, let source = queries.baseAddress, let target = output.baseAddress else {
      return nil
    }
    self.layer = layer
    kernels = cache.layers[layer]
    self.state = state
    shape = cache.shape
    self.options = options
    self.queries = source
    self.output = target
  }

  var dim: Int { shape.headDim }
  var padded: Int { (dim + 15) & ~15 }
  var group: Int { shape.queryHeads / shape.kvHeads }

  // MARK: - One item

  /// Attends with the item's queries over its pages, into `combined`, which is reset first.
  func attend(
    _ item: Cut.Item,
    into combined: CombinedRows,
    memory: WorkerScratch
  ) throws(KVError) {
    combined.reset(rows: item.rowCount)
    gather(item, into: memory)
    let skips = skips(item)
    if skips { peekWeights(item, memory, through: combined) }
    if item.hasSinks { runSinks(item, memory, into: combined) }
    if skips { runExact(item, memory, into: combined) }
    if !item.sealed.isEmpty {
      if kernels.decodes(head: item.head) {
        try runDecoded(item, memory, into: combined)
      } else {
        runSealed(item, memory, into: combined)
      }
    }
    if !skips { runExact(item, memory, into: combined) }
  }

  func runSinks(_ item: Cut.Item, _ memory: WorkerScratch, into combined: CombinedRows) {
    guard let page = state.sinkPage else { return }
    let tokens = kernels.geometry.sinkTokens(of: state.tokenCount)
    let pageRun = PageRun(kind: .sink, position: 0, pages: 1, lastTokens: tokens)
    withAddress(page.base) { run(pageRun, $0, item, memory, into: combined) }
  }

  private func runExact(_ item: Cut.Item, _ memory: WorkerScratch, into combined: CombinedRows) {
    if !item.exact.isEmpty { run(pages: item.exact, of: .exact, item, memory, into: combined) }
  }

  /// Pages that share their means are one run.
  private func runSealed(_ item: Cut.Item, _ memory: WorkerScratch, into combined: CombinedRows) {
    var rest = item.sealed
    while !rest.isEmpty {
      let pages = state.means?.firstStretch(of: rest) ?? rest
      run(pages: pages, of: .sealed, item, memory, into: combined)
      rest = pages.upperBound..<rest.upperBound
    }
  }

  func run(
    pages: Range<Int>,
    of kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) {
    let geometry = kernels.geometry
    let before = (pages.upperBound - 1) * geometry.pageTokens
    let paged = geometry.pagedTokens(of: state.tokenCount)
    let pageRun = PageRun(
      kind: kind,
      position: geometry.sinks + pages.lowerBound * geometry.pageTokens,
      pages: pages.count,
      lastTokens: min(geometry.pageTokens, paged - before),
      hasNext: pages.upperBound < (kind == .sealed ? state.sealedCount : state.pages.count)
    )
    withAddresses(from: pages.lowerBound) { run(pageRun, $0, item, memory, into: combined) }
  }

  /// The item's query rows, (tokens, members, headDim), in the model's space and in that of the codes.
  private func gather(_ item: Cut.Item, into memory: WorkerScratch) {
    let rows = item.rowCount
    let members = item.members.count
    for (index, token) in item.tokens.enumerated() {
      let source = queries + row(of: token, item, member: 0) * dim
      (memory.queries + index * members * dim).update(from: source, count: members * dim)
      let position = Int64(state.tokenCount - queryTokens + token)
      (memory.positions + index * members).update(repeating: position, count: members)
    }
    guard !item.sealed.isEmpty else { return }
    kernels.plan.keys[item.head].transform(
      queries: memory.queries,
      count: rows,
      into: memory.transformedQueries
    )
  }

  /// The row, in queries and output, of a query token and a member of the item's part of the group.
  func row(of token: Int, _ item: Cut.Item, member: Int) -> Int {
    token * shape.queryHeads + item.head * group + item.members.lowerBound + member
  }

  private struct PageRun {
    let kind: LayerKernels.PageKind
    let position: Int
    let pages: Int
    let lastTokens: Int
    /// Whether another page of the same kind follows, which the next item will read.
    var hasNext = false
  }

  private typealias Addresses = UnsafePointer<UnsafePointer<UInt8>?>

  private func withAddress(_ base: UnsafeMutablePointer<UInt8>, _ body: (Addresses) -> Void) {
    withUnsafePointer(to: UnsafePointer<UInt8>?(base), body)
  }

  private func withAddresses(from index: Int, _ body: (Addresses) -> Void) {
    state.addresses.withUnsafeBufferPointer { addresses in
      guard let base = addresses.baseAddress else { return }
      // An Address is one pointer and nothing else.
      let raw = UnsafeRawPointer(base + index)
      body(raw.assumingMemoryBound(to: UnsafePointer<UInt8>?.self))
    }
  }

  /// Attends over a span of pages and adds the result to the item's rows.
  private func run(
    _ pageRun: PageRun,
    _ addresses: Addresses,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) {
    let head = item.head
    let rowCount = item.rowCount
    let isCoded = pageRun.kind == .sealed || pageRun.kind == .decoded
    // All pages of a span share their means.
    let page = (pageRun.position - kernels.geometry.sinks) / kernels.geometry.pageTokens
    let means = isCoded ? state.means?.means(ofPage: page) : nil
    let keyMean = isCoded ? means?.keys[head] ?? kernels.plan.keys[head].fixedMean : nil
    let valueMean = isCoded ? means?.values[head] ?? kernels.plan.values[head].fixedMean : nil
    if let keyMean {
      keyMean.withUnsafeBufferPointer { mean in
        for row in 0..<rowCount {
          memory.bias[row] = nibble_dot(memory.queries + row * dim, mean.baseAddress, dim)
        }
      }
    }
    let isTransformed = isCoded && kernels.plan.keys[head].description.rotation != .none
    let offsets = kernels.offsets(pageRun.kind, head: head)
    var run = nibble_run(
      pages: addresses,
      page_count: Int32(pageRun.pages),
      last_page_tokens: Int32(pageRun.lastTokens),
      has_next: pageRun.hasNext,
      first_position: Int64(pageRun.position),
      keys: kernels.keyStrip(pageRun.kind, head: head),
      values: kernels.valueStrip(pageRun.kind, head: head),
      key_codes: offsets.keyCodes,
      key_side: offsets.keySide,
      value_codes: offsets.valueCodes,
      value_side: offsets.valueSide
    )
    var rows = nibble_rows(
      count: Int32(rowCount),
      queries: isTransformed ? memory.transformedQueries : memory.queries,
      positions: memory.positions,
      bias: keyMean == nil ? nil : UnsafePointer(memory.bias),
      window: Int64(min(options.window ?? 0, state.tokenCount)),
      scale: options.scale ?? 1 / Float(dim).squareRoot(),
      soft_cap: options.softCap ?? 0,
      skip: skip(pageRun.kind, item, memory, after: combined)
    )
    var partial = nibble_partial(
      maximum: memory.maximum,
      sum: memory.sum,
      accumulator: memory.accumulator
    )
    nibble_attend(&run, &rows, &partial, memory.kernel)
    if let skip = rows.skip { kernels.skipping?.count(skip.pointee) }
    let transformsValues = isCoded && kernels.plan.values[head].description.rotation != .none
    add(memory, rows: rowCount, isTransformed: transformsValues, mean: valueMean, to: combined)
  }

  /// Pages of a host's codec: each is decoded and attended to by itself.
  private func runDecoded(
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) throws(KVError) {
    let head = item.head
    let geometry = kernels.geometry
    let keys = kernels.plan.keys[head]
    let values = kernels.plan.values[head]
    let source = kernels.offsets(.sealed, head: head)
    let target = kernels.offsets(.decoded, head: head)
    let (bytes, rows) = memory.decodedPage(
      bytes: kernels.decodedByteCount(head: head),
      values: keys.valueCount
    )
    let first = memory.positions[0] - Int64(options.window ?? state.tokenCount)
    for index in item.sealed {
      // Behind every row's window, or ahead of every row: nothing to decode.
      let position = Int64(geometry.sinks + index * geometry.pageTokens)
      if position > memory.positions[item.rowCount - 1] { break }
      if position + Int64(geometry.pageTokens) <= first { continue }
      let base = state.pages[index].base
      do throws(CodecError) {
        try keys.decodeCoded(
          codes: base + source.keyCodes,
          side: base + source.keySide,
          into: rows
        )
        nibble_write_rows(
          kernels.keyStrip(.decoded, head: head),
          bytes + target.keyCodes,
          0,
          Int32(geometry.pageTokens),
          rows,
          dim
        )
        try values.decodeCoded(
          codes: base + source.valueCodes,
          side: base + source.valueSide,
          into: rows
        )
        nibble_write_rows(
          kernels.valueStrip(.decoded, head: head),
          bytes + target.valueCodes,
          0,
          Int32(geometry.pageTokens),
          rows,
          dim
        )
      } catch {
        throw .codec(error)
      }
      let pageRun = PageRun(
        kind: .decoded,
        position: geometry.sinks + index * geometry.pageTokens,
        pages: 1,
        lastTokens: geometry.pageTokens
      )
      withAddress(bytes) { run(pageRun, $0, item, memory, into: combined) }
    }
  }
}
