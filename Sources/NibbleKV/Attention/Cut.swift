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
    private let block: AttentionScratch.Blocks
    private let group: Int
    let segments: Int
    private let sealedPages: Int
    private let pageCount: Int
    private let droppedPages: Int

    init(call: AttentionCall) {
      heads = call.shape.kvHeads
      queryTokens = call.queryTokens
      group = call.shape.queryHeads / heads
      block = AttentionScratch.Blocks(queryTokens: queryTokens, group: group)
      sealedPages = call.state.sealedCount
      pageCount = call.state.pages.count
      droppedPages = call.state.droppedCount
      let items = heads * block.count
      let wanted = min(
        AttentionScratch.mostSplitItems / items,
        (pageCount - droppedPages) / AttentionScratch.leastSegmentPages
      )
      segments = items < AttentionScratch.fewItems ? max(1, wanted) : 1
    }

    var itemCount: Int { blockCount * segments }

    /// Blocks of query rows: items but for the split by pages.
    var blockCount: Int { heads * block.count }
    var rowsOfBlock: Int { block.rows }

    /// Items in the order of heads, parts of the group, blocks of tokens, segments of pages.
    func item(_ index: Int) -> Item {
      let segment = index % segments
      let row = index / segments
      let part = row / block.tokenBlocks % block.parts
      let first = row % block.tokenBlocks * block.tokens
      let held = pageCount - droppedPages
      let low = droppedPages + held * segment / segments
      let high = droppedPages + held * (segment + 1) / segments
      return Item(
        head: row / block.count,
        tokens: first..<min(queryTokens, first + block.tokens),
        members: (part * block.members)..<min(group, (part + 1) * block.members),
        sealed: min(low, sealedPages)..<min(high, sealedPages),
        exact: max(low, sealedPages)..<max(high, sealedPages),
        hasSinks: segment == 0
      )
    }
  }
}
