import NibblePolicy
import Synchronization

/// One call over any number of sequences: the items of all of them in one pool.
extension CallScratch {
  /// One sequence's part of the call, and where its items and results begin.
  struct Share {
    let call: AttentionCall
    let cut: AttentionCall.Cut
    let firstItem: Int
    /// Floats before its results; a share that is not split by pages has none.
    let firstResult: Int
    /// Blocks of split shares before its own.
    let firstBlock: Int

    var resultFloats: Int { CombinedRows.floatCount(rows: cut.rowsOfBlock, padded: call.padded) }
  }

  /// Adds a sequence's part.
  func add(_ call: AttentionCall) {
    let cut = AttentionCall.Cut(call: call)
    let share = Share(
      call: call,
      cut: cut,
      firstItem: itemCount,
      firstResult: resultCount,
      firstBlock: blockCount
    )
    shares.append(share)
    itemCount += cut.itemCount
    guard cut.segments > 1 else { return }
    // Room for the most segments at once: a longer context then takes no memory.
    resultCount += AttentionScratch.mostSplitItems * share.resultFloats
    blockCount += cut.blockCount
  }

  /// Computes what was added.
  func run(workers: Workers) throws(KVError) {
    try reserveResults()
    for share in shares where share.cut.segments > 1 {
      for block in 0..<share.cut.blockCount {
        segmentsLeft[share.firstBlock + block].store(share.cut.segments, ordering: .relaxed)
      }
    }
    workers.run(items: itemCount, self)
    try failure.rethrow()
  }

  private func share(of item: Int) -> Share {
    var low = 0
    var high = shares.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if shares[middle].firstItem <= item { low = middle } else { high = middle }
    }
    return shares[low]
  }
}

extension CallScratch: WorkItems {
  func run(item: Int, worker: Int) {
    let share = share(of: item)
    let memory = workers[worker]
    do throws(KVError) {
      if share.cut.segments > 1 {
        try attend(item - share.firstItem, of: share, memory)
      } else {
        let part = share.cut.item(item - share.firstItem)
        try share.call.attend(part, into: memory.combined, memory: memory)
        try share.call.finish(part, memory.combined, memory: memory)
      }
    } catch {
      failure.record(error, item: item)
    }
  }

  /// Does one segment; whoever comes last combines the block's segments in their order.
  ///
  /// A segment that fails never counts, so its block is not finished.
  private func attend(_ index: Int, of share: Share, _ memory: WorkerScratch) throws(KVError) {
    let segments = share.cut.segments
    let block = index / segments
    try share.call.attend(share.cut.item(index), into: rows(index, of: share), memory: memory)
    let left = segmentsLeft[share.firstBlock + block]
      .wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue
    guard left == 0 else { return }
    let first = share.cut.item(block * segments)
    let total = rows(block * segments, of: share)
    for segment in 1..<segments {
      let part = rows(block * segments + segment, of: share)
      share.call.add(part, to: total, rows: first.rowCount)
    }
    try share.call.finish(first, total, memory: memory)
  }

  private func rows(_ index: Int, of share: Share) -> CombinedRows {
    CombinedRows(
      base: results + share.firstResult + index * share.resultFloats,
      rows: share.cut.rowsOfBlock,
      padded: share.call.padded
    )
  }
}
