import NibblePolicy

extension AttentionCall {
  /// How a call is cut into items.
  ///
  /// A function of shapes alone.
  struct Cut {
    /// One item's share.
    struct Item {
      let head: Int
      /// Query tokens.
      let tokens: Range<Int>
      /// Query heads of the KV head's group.
      let members: Range<Int>

      var rowCount: Int { tokens.count * members.count }

      /// Pages after the sinks that are sealed.
      let sealed: Range<Int>
      /// Pages that are still exact.
      let exact: Range<Int>
      /// Whether the sinks belong to this item.
      let hasSinks: Bool
    }

    let heads: Int
    let queryTokens: Int
    let tokensOfBlock: Int
    let blocks: Int
    let membersOfPart: Int
    let parts: Int
    private let group: Int
    let segments: Int
    let rowsOfBlock: Int
    private let sealedPages: Int
    private let pageCount: Int
    private let droppedPages: Int

    /// Items below which pages are split into segments, so that several threads have work.
    private static let fewItems = 32

    init(call: AttentionCall) {
      heads = call.shape.kvHeads
      queryTokens = call.queryTokens
      group = call.shape.queryHeads / heads
      membersOfPart = min(group, WorkerScratch.rows)
      parts = (group + membersOfPart - 1) / membersOfPart
      tokensOfBlock = min(queryTokens, WorkerScratch.rows / membersOfPart)
      blocks = (queryTokens + tokensOfBlock - 1) / tokensOfBlock
      rowsOfBlock = tokensOfBlock * membersOfPart
      sealedPages = call.state.sealedCount
      pageCount = call.state.pages.count
      droppedPages = call.state.droppedCount
      let items = heads * parts * blocks
      let wanted = min(
        AttentionScratch.mostSplitItems / items,
        (pageCount - droppedPages) / AttentionScratch.leastSegmentPages
      )
      segments = items < Self.fewItems ? max(1, wanted) : 1
    }

    var itemCount: Int { blockCount * segments }

    /// Blocks of query rows: items but for the split by pages.
    var blockCount: Int { heads * parts * blocks }

    /// Items in the order of heads, parts of the group, blocks of tokens, segments of pages.
    func item(_ index: Int) -> Item {
      let segment = index % segments
      let block = index / segments % blocks
      let part = index / segments / blocks % parts
      let first = block * tokensOfBlock
      let held = pageCount - droppedPages
      let low = droppedPages + held * segment / segments
      let high = droppedPages + held * (segment + 1) / segments
      return Item(
        head: index / segments / blocks / parts,
        tokens: first..<min(queryTokens, first + tokensOfBlock),
        members: (part * membersOfPart)..<min(group, (part + 1) * membersOfPart),
        sealed: min(low, sealedPages)..<min(high, sealedPages),
        exact: max(low, sealedPages)..<max(high, sealedPages),
        hasSinks: segment == 0
      )
    }
  }
}
