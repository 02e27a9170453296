internal import CNibble
import NibblePolicy

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Leaving out pages and values whose softmax weight cannot matter.
///
/// A page is judged by a lower bound of each row's whole sum of weights. Sinks and the newest tokens carry most of it, so
/// they are attended to first.
extension AttentionCall {
  /// Exact pages whose weights an item looks up where they belong to another segment.
  private static let mostPeekedPages = 2

  /// Whether an item may leave something out.
  func skips(_ item: Cut.Item) -> Bool {
    kernels.skipping != nil && !item.sealed.isEmpty && !kernels.everDecodes(head: item.head)
  }

  /// Looks up weights that belong to other segments of the same rows.
  ///
  /// Each segment does so by itself, so that what it leaves out does not depend on which one is done first. `combined` is
  /// used and left empty.
  func peekWeights(
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    through combined: CombinedRows
  ) throws(KVError) {
    memory.known.update(repeating: -.infinity, count: item.rowCount)
    let exact = state.sealedCount..<state.pages.count
    guard !item.hasSinks || item.exact != exact else { return }
    try runSinks(item, memory, into: combined)
    let newest = exact.suffix(Self.mostPeekedPages)
    if !newest.isEmpty { try run(pages: newest, of: .exact, item, memory, into: combined) }
    noteWeights(of: combined, rows: item.rowCount, memory)
    combined.reset(rows: item.rowCount)
  }

  /// What the kernels may leave out of pages that come after what is combined already; `nil` if nothing.
  func skip(
    _ kind: LayerKernels.PageKind,
    _ item: Cut.Item,
    _ memory: WorkerScratch,
    after combined: CombinedRows
  ) -> UnsafeMutablePointer<nibble_skip>? {
    guard case .sealed = kind, let skipping = kernels.skipping else { return nil }
    noteWeights(of: combined, rows: item.rowCount, memory)
    memory.skip.pointee = nibble_skip(
      share: skipping.share(ofTokens: visibleTokens),
      summary: kernels.offsets(kind, head: item.head).summary ?? -1,
      known: memory.known,
      attended_pages: 0,
      skipped_pages: 0,
      attended_stretches: 0,
      skipped_stretches: 0
    )
    return memory.skip
  }

  /// Tokens that a row sees at most, whole stretches at both ends of a window.
  private var visibleTokens: Int {
    let ends = 2 * Int(NIBBLE_MAX_BLOCK_TOKENS)
    guard let window = options.window, window < state.tokenCount else { return state.tokenCount }
    return min(state.tokenCount, window + ends)
  }

  /// Raises the known weights to those that are combined.
  private func noteWeights(of combined: CombinedRows, rows: Int, _ memory: WorkerScratch) {
    for row in 0..<rows {
      let known = combined.maximum[row] + log(combined.sum[row])
      memory.known[row] = max(memory.known[row], known)
    }
  }
}
