import NibblePolicy

/// Neighbouring tokens of one layer that are stored alike.
package struct PageStretch: Hashable, Sendable {
  /// How tokens are stored.
  package enum Kind: Hashable, Sendable {
    /// Exact for good.
    case sinks
    /// Let go of behind a sliding window.
    case dropped
    /// In pages that are encoded as this rung of the plan says.
    case sealed(rung: Int)
    /// In exact pages: the tail, or all tokens of a layer that is not compressed.
    case exact
  }

  /// Positions.
  package var tokens: Range<Int>
  package let kind: Kind
}

extension KVSequence {
  /// How the tokens of a layer are stored, from the first to the last.
  ///
  /// - Parameter layer: 0 ..< `shape.layers`.
  /// - Returns: Stretches without gaps; neighbours differ in their kind.
  /// - Throws: ``KVError/layerOutOfRange(layer:layers:)``.
  /// - Complexity: O(pages).
  package func stretches(layer: Int) throws(KVError) -> [PageStretch] {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    let state = snapshot(layer: layer)
    let geometry = cache.layers[layer].geometry
    let sinks = geometry.sinkTokens(of: state.tokenCount)
    var stretches: [PageStretch] = []
    if sinks > 0 { stretches.append(PageStretch(tokens: 0..<sinks, kind: .sinks)) }
    for page in state.pages.indices {
      let first = geometry.sinks + page * geometry.pageTokens
      let end = min(first + geometry.pageTokens, state.tokenCount)
      let kind = state.kind(ofPage: page)
      if let last = stretches.last, last.kind == kind {
        stretches[stretches.count - 1].tokens = last.tokens.lowerBound..<end
      } else {
        stretches.append(PageStretch(tokens: first..<end, kind: kind))
      }
    }
    return stretches
  }
}

extension LayerState {
  fileprivate func kind(ofPage page: Int) -> PageStretch.Kind {
    if page < droppedCount { return .dropped }
    return page < sealedCount ? .sealed(rung: rung(of: page)) : .exact
  }
}
