import NibbleCodec
import NibblePolicy

/// Sealing: the oldest exact pages are encoded and their exact rows let go.
extension LayerWriter {
  /// Seals every page that is due.
  ///
  /// Each page is replaced only when all its strips are encoded.
  func sealOldPages(of state: inout LayerState) throws(KVError) {
    let due = geometry.sealablePages(of: state.tokenCount)
    guard due > state.sealedCount else { return }
    let size = plan.pageLayout.byteCount
    let first = state.sealedCount
    guard let fresh = try pool.take([size: due - first])[size] else { return }
    let pages = Array(state.pages[first..<due])
    let means = learn(from: pages, first: first, state.means ?? LayerMeans(plan: plan))
    try encode(pages, first: first, into: fresh, means: means)
    state.means = means
    for (offset, page) in fresh.enumerated() { state.replace(first + offset, with: page) }
    state.sealedCount = due
  }

  private func encode(
    _ pages: [Page],
    first: Int,
    into fresh: [Page],
    means: LayerMeans?
  ) throws(KVError) {
    let heads = plan.pageLayout.heads.count
    let failure = FirstFailure()
    workers.run(items: pages.count * heads) { item, _ in
      let page = pages[item / heads]
      let target = fresh[item / heads]
      do throws(CodecError) {
        let means = means?.means(ofPage: first + item / heads)
        try encode(head: item % heads, of: page, into: target, means: means)
      } catch {
        failure.record(.codec(error), item: item)
      }
    }
    try failure.rethrow()
  }

  private func encode(
    head: Int,
    of page: Page,
    into target: Page,
    means: StripMeans?
  ) throws(CodecError) {
    let source = plan.exactLayout.heads[head]
    let offsets = plan.pageLayout.heads[head]
    let keys = plan.keys[head]
    let values = plan.values[head]
    let rows = UnsafeMutablePointer<Float>.allocate(capacity: keys.valueCount)
    defer { rows.deallocate() }
    var scratch = StripScratch(for: [keys, values])
    try plan.exactKeys.decode(
      codes: page.base + source.keyCodes,
      side: page.base + source.keySide,
      mean: nil,
      into: rows
    )
    try keys.encode(
      prepared: rows,
      mean: means?.keys[head],
      codes: target.base + offsets.keyCodes,
      side: target.base + offsets.keySide,
      scratch: &scratch
    )
    try plan.exactValues.decode(
      codes: page.base + source.valueCodes,
      side: page.base + source.valueSide,
      mean: nil,
      into: rows
    )
    try values.encode(
      prepared: rows,
      mean: means?.values[head],
      codes: target.base + offsets.valueCodes,
      side: target.base + offsets.valueSide,
      scratch: &scratch
    )
  }

  /// Adds the mean rows of exact pages to what is known, page by page in order.
  private func learn(from pages: [Page], first: Int, _ means: LayerMeans?) -> LayerMeans? {
    guard var means else { return nil }
    let heads = plan.exactLayout.heads
    for (offset, page) in pages.enumerated() {
      means.add(
        page: first + offset,
        keyMeans: heads.indices.map { head in
          guard plan.keys[head].description.removesMean else { return nil }
          return mean(of: plan.exactKeys, at: page.base + heads[head].keyCodes)
        },
        valueMeans: heads.indices.map { head in
          guard plan.values[head].description.removesMean else { return nil }
          return mean(of: plan.exactValues, at: page.base + heads[head].valueCodes)
        }
      )
    }
    return means
  }

  private func mean(of codec: StripCodec, at codes: UnsafePointer<UInt8>) -> [Float] {
    let rows = UnsafeMutablePointer<Float>.allocate(capacity: codec.valueCount)
    defer { rows.deallocate() }
    // Exact rows have no side data, and decoding them cannot fail.
    try? codec.decode(codes: codes, side: codes, mean: nil, into: rows)
    return (0..<codec.headDim).map { channel in
      let sum = (0..<codec.pageTokens).reduce(0.0) {
        $0 + Double(rows[$1 * codec.headDim + channel])
      }
      return Float(sum / Double(codec.pageTokens))
    }
  }
}
