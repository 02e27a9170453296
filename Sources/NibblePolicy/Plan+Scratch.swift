extension Plan {
  /// Working memory of attention, in bytes.
  ///
  /// Each thread has the kernels' scratch and, for up to 64 query rows, the rows in two spaces, a partial result and the
  /// combined one. Few query rows over a long context are split by pages, into at most 64 items, whose results wait to be combined:
  /// those of a chunk, of the last chunk, or of one token of each sequence.
  func scratchBytes(context: Int, chunk: Int, threads: Int, sequences: Int = 1) -> Int {
    let workers = threads * AttentionScratch.workerBytes(headDim: shape.headDim)
    let pages = context / policy.pageTokens
    guard pages >= 2 * AttentionScratch.leastSegmentPages else { return workers }
    let last = context % chunk == 0 ? chunk : context % chunk
    let most = max(
      splitResultBytes(queryTokens: min(chunk, context)),
      splitResultBytes(queryTokens: last),
      splitResultBytes(queryTokens: 1) * sequences
    )
    return workers + most
  }

  /// Bytes of the results of an attention step that is split by pages; 0 if it is not.
  private func splitResultBytes(queryTokens: Int) -> Int {
    let group = shape.queryHeads / shape.kvHeads
    let block = AttentionScratch.Blocks(queryTokens: queryTokens, group: group)
    guard shape.kvHeads * block.count < AttentionScratch.fewItems else { return 0 }
    return AttentionScratch.mostSplitItems
      * AttentionScratch.combinedBytes(rows: block.rows, headDim: shape.headDim)
  }
}

/// Sizes of attention's working memory, shared by the planner and the cache.
package enum AttentionScratch {
  /// Query rows of one kernel call.
  package static let rows = 64
  /// Items that a call is split into at most when it is split by pages.
  package static let mostSplitItems = 64
  /// Items below which a call is split by pages, so that several threads have work.
  package static let fewItems = 32
  /// Pages of one such item at least.
  package static let leastSegmentPages = 64
  /// Room for the kernels' own scratch.
  package static let kernelBytes = 256 * 1024

  /// How the query rows of one KV head are cut into blocks.
  package struct Blocks {
    /// Query heads of one block; a larger group is cut into parts.
    package let members: Int
    /// Parts of the group.
    package let parts: Int
    /// Query tokens of one block.
    package let tokens: Int
    /// Blocks of query tokens.
    package let tokenBlocks: Int

    package init(queryTokens: Int, group: Int) {
      members = min(group, AttentionScratch.rows)
      parts = (group + members - 1) / members
      tokens = min(queryTokens, AttentionScratch.rows / members)
      tokenBlocks = (queryTokens + tokens - 1) / tokens
    }

    /// All blocks.
    package var count: Int { parts * tokenBlocks }
    /// Query rows of one block.
    package var rows: Int { tokens * members }
  }

  /// Bytes of the softmax state of `rows` rows: maximum, sum, and an accumulator in each of two spaces.
  package static func combinedBytes(rows: Int, headDim: Int) -> Int {
    rows * (2 * padded(headDim) + 2) * 4
  }

  /// Bytes of one worker.
  package static func workerBytes(headDim: Int) -> Int {
    kernelBytes + rows * (3 * padded(headDim) * 4 + 4 * 4 + 8)
      + combinedBytes(rows: rows, headDim: headDim)
  }

  private static func padded(_ headDim: Int) -> Int { (headDim + 15) & ~15 }
}
