extension Plan {
  /// Working memory of attention, in bytes.
  ///
  /// Each thread has the kernels' scratch and, for up to 64 query rows, the rows in two spaces, a partial result and the
  /// combined one. Decoding splits long contexts into at most 128 items, whose results wait to be combined.
  func scratchBytes(context: Int, chunk: Int, threads: Int) -> Int {
    let workers = threads * AttentionScratch.workerBytes(headDim: shape.headDim)
    let pages = context / policy.pageTokens
    guard pages >= 2 * AttentionScratch.leastSegmentPages else { return workers }
    let group = min(shape.queryHeads / shape.kvHeads, AttentionScratch.rows)
    let rows = chunk == 1 ? group : AttentionScratch.rows
    let results = AttentionScratch.combinedBytes(rows: rows, headDim: shape.headDim)
    return workers + AttentionScratch.mostSplitItems * results
  }
}

/// Sizes of attention's working memory, shared by the planner and the cache.
package enum AttentionScratch {
  /// Query rows of one kernel call.
  package static let rows = 64
  /// Items that a call is split into at most when it is split by pages.
  package static let mostSplitItems = 128
  /// Pages of one such item at least.
  package static let leastSegmentPages = 64
  /// Room for the kernels' own scratch.
  package static let kernelBytes = 256 * 1024

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
