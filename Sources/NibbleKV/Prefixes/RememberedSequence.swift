import NibblePolicy

/// A sequence as it was when it was remembered, or the beginning of it that is left.
struct RememberedSequence: Sendable {
  var state: SequenceState
  /// At all boundaries within its tokens.
  var hashes: [PrefixHash]
  /// Whether it lost its end to make room.
  var isCut = false

  var tokens: [Int32] { state.tokens }

  /// How many of the first `common` tokens it can serve without decoding a page; `nil` if that is not worth it.
  ///
  /// All of them if they are the whole sequence, or if the cut goes through exact rows; else those up to a page boundary.
  func usableTokens(of common: Int, geometries: [LayerGeometry]) -> Int? {
    guard common < tokens.count else { return common }
    let geometry = geometries[0]
    let pages = geometry.pagedTokens(of: common) / geometry.pageTokens
    let sealed = state.layers.reduce(0) { max($0, $1.sealedCount) }
    let cut = pages < sealed ? geometry.sinks + pages * geometry.pageTokens : common
    // The sinks alone are computed sooner than shared.
    guard cut > geometry.sinks, holds(after: cut, geometries: geometries) else { return nil }
    return cut
  }

  /// Whether layers with a sliding window still have what the token after a cut would see.
  func holds(after tokens: Int, geometries: [LayerGeometry]) -> Bool {
    zip(geometries, state.layers).allSatisfy { $0.holds($1, after: tokens) }
  }

  /// Keeps the sinks and the first `pageCount` pages, at least one.
  mutating func keepPages(_ pageCount: Int, geometries: [LayerGeometry], chain: PrefixChain) {
    let count = geometries[0].sinks + pageCount * geometries[0].pageTokens
    for index in state.layers.indices {
      state.layers[index].keepWholePages(pageCount, tokens: count)
    }
    state.tokens.removeLast(state.tokens.count - count)
    hashes.removeLast(hashes.count - chain.boundaryCount(of: count))
    isCut = true
  }
}

extension LayerState {
  /// Forgets what lies behind the first pages, which are full and have `tokens` with the sinks.
  fileprivate mutating func keepWholePages(_ count: Int, tokens: Int) {
    ahead = nil
    keepPages(count)
    sealedCount = min(sealedCount, count)
    means?.keepPages(sealedCount)
    if sealedCount == 0 { means = nil }
    tokenCount = tokens
  }

  /// Whether nobody else holds the page at an index, the sinks at -1, so that its memory is free without it.
  ///
  /// It is taken out for a moment to see.
  mutating func holdsAlone(_ index: Int) -> Bool {
    guard var page = self[page: index], page.memory != nil else { return false }
    move(index, to: .dropped)
    let isAlone = isKnownUniquelyReferenced(&page)
    move(index, to: page)
    return isAlone
  }
}

extension SequenceState {
  /// Whether all layers have the same tokens.
  var isWhole: Bool { layers.allSatisfy { $0.tokenCount == layers[0].tokenCount } }

  func forEachPage(_ body: (Page) -> Void) {
    for layer in layers {
      if let page = layer.sinkPage { body(page) }
      layer.pages.forEach(body)
    }
  }
}
