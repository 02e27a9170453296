public import NibblePolicy
import Synchronization

/// One sequence of tokens in a ``KVCache``.
///
/// Calls on one sequence wait for each other; different sequences run side by side. Forks share sealed pages.
public final class KVSequence: KeyValueStore {
  /// The cache that holds the pages.
  public let cache: KVCache
  private let state: Mutex<SequenceState>
  /// The file that the sequence is saved in; always locked before the state.
  let session: Mutex<SessionLink?>
  /// When the sequence was used, by the registry's clock.
  let lastUse = Atomic(0)

  init(cache: KVCache, state: SequenceState, session: SessionLink? = nil) {
    self.cache = cache
    self.state = Mutex(state)
    self.session = Mutex(session)
    cache.sequences.add(self)
    noteUse()
  }

  deinit { cache.sequences.remove(ObjectIdentifier(self)) }

  /// The model's shape.
  public var shape: ModelShape { cache.plan.shape }

  /// Tokens that every layer has.
  public var tokenCount: Int {
    state.withLock { $0.tokenCount }
  }

  /// The ids of the first tokens, as far as ``record(tokens:)`` was told them.
  public var tokens: [Int] {
    snapshot().tokens.map(Int.init)
  }

  /// Says which tokens the newest rows belong to.
  ///
  /// Ids make a sequence's beginning known to other prompts, and are saved with it. Attention does not need them. Ids that do not follow
  /// those which are known already are of no use and not kept.
  ///
  /// - Throws: ``KVError/positionOutOfRange(position:tokens:)`` if not every layer has these tokens yet, and
  ///   ``KVError/invalidOption(name:value:expected:)`` for a negative id; nothing is recorded then.
  public func record(tokens: Span<Int>) throws(KVError) {
    try withState { state throws(KVError) in try state.record(tokens) }
  }

  // MARK: - Append

  /// Appends new tokens of one layer.
  ///
  /// First the pages that have become older than the policy's `recent` window are sealed; then the rows are added to the
  /// tail. More than 1,024 tokens are taken in steps of 1,024, so the tail stays small however long the append is; only the last
  /// step's tokens then see their neighbours exactly, which is why prefill chunks are best kept to 1,024 tokens.
  ///
  /// - Parameters:
  ///   - keys: Shape (tokens, kvHeads, headDim), rotary embedding applied.
  ///   - values: The same shape.
  ///   - layer: 0 ..< `shape.layers`.
  /// - Throws: ``KVError`` for wrong lengths, values that are not finite or too large for the layer's codecs, an exceeded
  ///   budget, pages that cannot be read back from a file, and a host's codec that fails; nothing is appended then. Pages that
  ///   were due may have been sealed or encoded again, which the next append would have done in the same way.
  /// - Complexity: O(tokens · kvHeads · headDim), and the encoding of the pages that are sealed.
  public func append(keys: Span<Float>, values: Span<Float>, layer: Int) throws(KVError) {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    let count = try AppendCheck.check(
      keys: keys,
      values: values,
      layer: layer,
      shape: shape,
      limit: cache.layers[layer].magnitudeLimit
    )
    guard count > 0 else { return }
    try keys.withUnsafeBufferPointer { keys throws(KVError) in
      try values.withUnsafeBufferPointer { values throws(KVError) in
        guard let keys = keys.baseAddress, let values = values.baseAddress else { return }
        let rows = LayerWriter.Rows(
          keys: keys,
          values: values,
          count: count,
          rowLength: shape.kvHeads * shape.headDim
        )
        try withState { state throws(KVError) in
          let position = state.layers[layer].tokenCount
          try state.makingRoom(in: cache) { state throws(KVError) in
            try cache.mover(layer: layer).loadForAppend(&state.layers[layer])
            try cache.writer(layer: layer).append(rows, to: &state.layers[layer])
          }
          cache.gatherer?.add(rows, position: position, layer: layer)
        }
      }
    }
  }

  /// Appends new tokens in another number format; see ``append(keys:values:layer:)``.
  public func append<Element: KVElement>(
    keys: Span<Element>,
    values: Span<Element>,
    layer: Int
  ) throws(KVError) {
    let keys = Element.widened(keys)
    let values = Element.widened(values)
    try append(keys: keys.span, values: values.span, layer: layer)
  }

  // MARK: - Attend

  /// Causal attention of the newest tokens' queries over everything the layer holds.
  ///
  /// Query `i` of `n` belongs to the layer's token `count - n + i` and sees the tokens up to its own.
  ///
  /// - Parameters:
  ///   - queries: Shape (tokens, queryHeads, headDim), rotary embedding applied.
  ///   - layer: 0 ..< `shape.layers`.
  ///   - options: Scale, window and cap.
  ///   - output: The same shape as `queries`.
  /// - Throws: ``KVError`` for wrong lengths and options, positions that a sliding window has dropped, pages that cannot be read from
  ///   a file, and working memory that exceeds the budget.
  /// - Complexity: O(tokens · queryHeads · headDim · visible tokens). Rounding the query and the softmax weights to eight
  ///   bits (sixteen for 8-bit pages) adds an error well below that of 4-bit codes.
  public func attend(
    queries: Span<Float>,
    layer: Int,
    options: AttentionOptions = .standard,
    into output: inout MutableSpan<Float>
  ) throws(KVError) {
    try queries.withUnsafeBufferPointer { queries throws(KVError) in
      try output.withUnsafeMutableBufferPointer { output throws(KVError) in
        try attend(queries: queries, layer: layer, options: options, into: output)
      }
    }
  }

  private func attend(
    queries: UnsafeBufferPointer<Float>,
    layer: Int,
    options: AttentionOptions,
    into output: UnsafeMutableBufferPointer<Float>
  ) throws(KVError) {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    try withState { state throws(KVError) in
      try state.load(layer: layer, of: cache)
      try state.makingRoom(in: cache) { state throws(KVError) in
        let call = try AttentionCall(
          cache: cache,
          state: state.layers[layer],
          queries: queries,
          layer: layer,
          options: options,
          output: output
        )
        if let call { try run(call) }
      }
    }
  }

  private func run(_ call: AttentionCall) throws(KVError) {
    let scratch = try cache.scratch.take()
    defer { cache.scratch.giveBack(scratch) }
    scratch.add(call)
    try scratch.run(workers: cache.workers)
    try cache.gatherer?.add(queriesOf: call)
  }

  // MARK: - Fork and truncate

  /// A second sequence with the same tokens.
  ///
  /// Pages are shared; only the page being filled is copied, by whichever of the
  /// two appends first.
  ///
  /// - Complexity: O(pages), without copying any.
  public func fork() -> KVSequence {
    KVSequence(cache: cache, state: snapshot())
  }

  /// Forgets the tokens from `tokenCount` on, in every layer.
  ///
  /// A sealed page that is cut is decoded to exact rows; they keep the error that sealing gave them.
  ///
  /// A layer with a sliding window has dropped what lay behind it; at least the policy's `recent` tokens can be taken back.
  ///
  /// A save that goes on at the same time is waited for.
  ///
  /// - Throws: ``KVError/positionOutOfRange(position:tokens:)``, ``KVError/positionDropped(layer:position:firstHeld:)``, or an
  ///   exceeded budget; nothing is forgotten then.
  public func truncate(to tokenCount: Int) throws(KVError) {
    try session.withLock { session throws(KVError) in
      try forget(from: tokenCount)
      session?.keepTokens(tokenCount)
    }
  }

  private func forget(from tokenCount: Int) throws(KVError) {
    try withState { state throws(KVError) in
      let count = state.tokenCount
      guard tokenCount >= 0, tokenCount <= count else {
        throw .positionOutOfRange(position: tokenCount, tokens: count)
      }
      for (index, layer) in state.layers.enumerated() {
        try cache.writer(layer: index).checkHeld(layer, layer: index, after: tokenCount)
      }
      try state.makingRoom(in: cache) { state throws(KVError) in
        try state.truncate(to: tokenCount, in: cache)
      }
    }
  }

  // MARK: - State

  /// Runs `body` on the state, alone.
  func withState<Result: Sendable>(
    _ body: (inout sending SequenceState) throws(KVError) -> sending Result
  ) throws(KVError) -> Result {
    noteUse()
    return try state.withLock(body)
  }

  /// Runs `body` on the state, unless somebody else does something with it.
  func withStateIfIdle<Result: Sendable>(
    _ body: (inout sending SequenceState) -> sending Result
  ) -> Result? {
    state.withLockIfAvailable(body)
  }

  /// What the sequence holds now; shares its pages.
  func snapshot() -> SequenceState { state.withLock { $0 } }

  /// One layer as it is now; shares its pages.
  func snapshot(layer: Int) -> LayerState { state.withLock { $0.layers[layer] } }

  /// One layer as attention takes it, with its pages in memory if there is room for them.
  func layerForAttention(_ layer: Int) throws(KVError) -> LayerState {
    try withState { state throws(KVError) in
      try state.load(layer: layer, of: cache)
      return state.layers[layer]
    }
  }

  private func noteUse() { lastUse.store(cache.sequences.tick(), ordering: .relaxed) }

  // MARK: - Statistics

  /// What the sequence holds.
  public var statistics: SequenceStatistics {
    let state = snapshot()
    var pageBytes = 0
    var tailBytes = 0
    var sinkBytes = 0
    var storedPages = 0
    var sealedValues = 0
    var compressedTokens = 0
    for (index, layer) in state.layers.enumerated() {
      let plan = cache.plan.layers[index]
      for (rung, pages) in zip(plan.rungs, layer.heldPages(rungs: plan.rungs.count)) {
        pageBytes += pages * rung.pageLayout.byteCount
      }
      pageBytes += layer.means?.byteCount ?? 0
      let exact = layer.pages.count - max(layer.sealedCount, layer.droppedCount)
      tailBytes += exact * plan.exactLayout.byteCount
      sinkBytes += layer.sinkPage?.byteCount ?? 0
      storedPages += layer.storedCount
      let sealedPages = max(0, layer.sealedCount - layer.droppedCount)
      let sealedTokens = sealedPages * cache.plan.policy.pageTokens
      sealedValues += sealedTokens * shape.kvHeads * shape.headDim * 2
      let isCompressed = (plan.keys + plan.values).contains { !$0.description.isExactRows }
      if isCompressed { compressedTokens = max(compressedTokens, sealedTokens) }
    }
    let tokens = state.tokenCount
    return SequenceStatistics(
      tokens: tokens,
      compressedTokens: compressedTokens,
      pageBytes: pageBytes,
      tailBytes: tailBytes,
      storedPages: storedPages,
      sinkBytes: sinkBytes,
      exactBytes: tokens * shape.layers * shape.kvHeads * shape.headDim * 4,
      bitsPerValue: sealedValues == 0 ? 0 : Double(pageBytes * 8) / Double(sealedValues)
    )
  }
}
