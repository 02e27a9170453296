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
    try Self.checkHeld(
      state,
      layer: layer,
      kernels: cache.layers[layer],
      queryTokens: queryTokens,
      window: options.window
    )
    self.layer = layer
    kernels = cache.layers[layer]
    self.state = state
    shape = cache.shape
    self.options = options
    self.queries = source
    self.output = target
  }

  /// Throws if the first query sees something that was dropped.
  private static func checkHeld(
    _ state: LayerState,
    layer: Int,
    kernels: LayerKernels,
    queryTokens: Int,
    window: Int?
  ) throws(KVError) {
    guard state.droppedCount > 0 else { return }
    let query = state.tokenCount - queryTokens
    let needed = max(0, query - (window ?? query + 1) + 1)
    let held = kernels.geometry.firstHeldPosition(droppedPages: state.droppedCount)
    // The sinks are held too, but hardly ever all that is seen.
    guard needed >= held else {
      throw .positionDropped(layer: layer, position: needed, firstHeld: held)
    }
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
    if skips { try peekWeights(item, memory, through: combined) }
    if item.hasSinks { try runSinks(item, memory, into: combined) }
    if skips { try runExact(item, memory, into: combined) }
    try runSealed(item, memory, into: combined)
    if !skips { try runExact(item, memory, into: combined) }
  }

  func runSinks(
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) throws(KVError) {
    guard state.sinkPage != nil else { return }
    try run(pages: -1..<0, of: .sink, item, memory, into: combined)
  }

  private func runExact(
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) throws(KVError) {
    if !item.exact.isEmpty { try run(pages: item.exact, of: .exact, item, memory, into: combined) }
  }

  /// Pages that share their means and their age are one run.
  private func runSealed(
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    into combined: CombinedRows
  ) throws(KVError) {
    var rest = item.sealed
    while !rest.isEmpty {
      let pages = state.firstStretch(of: rest)
      let rung = state.rung(of: pages.lowerBound)
      if kernels.decodes(head: item.head, rung: rung) {
        try runDecoded(pages, rung: rung, item, memory, into: combined)
      } else {
        try run(pages: pages, of: .sealed(rung), item, memory, into: combined)
      }
      rest = pages.upperBound..<rest.upperBound
    }
  }

  /// The item's query rows, (tokens, members, headDim).
  private func gather(_ item: Cut.Item, into memory: WorkerScratch) {
    let members = item.members.count
    for (index, token) in item.tokens.enumerated() {
      let source = queries + row(of: token, item, member: 0) * dim
      (memory.queries + index * members * dim).update(from: source, count: members * dim)
      let position = Int64(state.tokenCount - queryTokens + token)
      (memory.positions + index * members).update(repeating: position, count: members)
    }
    memory.transformedRung = nil
  }

  /// The row, in queries and output, of a query token and a member of the item's part of the group.
  func row(of token: Int, _ item: Cut.Item, member: Int) -> Int {
    token * shape.queryHeads + item.head * group + item.members.lowerBound + member
  }
}
