internal import CNibble
import NibbleCodec
import NibblePolicy

/// A layer's layouts as the kernels take them, at addresses that stay.
///
/// `@unchecked`: written once in `init`, then only read.
final class LayerKernels: @unchecked Sendable {
  /// A kind of page: where a head's strips lie in it and how they are laid out.
  enum PageKind: Hashable {
    case sink
    case exact
    /// As the codecs of a rung of the plan left it.
    case sealed(Int)
    /// A page of a rung that was decoded to float32 rows.
    case decoded(Int)

    /// The rung of pages whose rows are those that a codec left.
    var rung: Int? {
      switch self {
      case .sink, .exact: nil
      case .sealed(let rung), .decoded(let rung): rung
      }
    }

    fileprivate var index: Int {
      switch self {
      case .sink: 0
      case .exact: 1
      case .sealed(let rung): 2 + 2 * rung
      case .decoded(let rung): 3 + 2 * rung
      }
    }
  }

  let plan: Plan.Layer
  let geometry: LayerGeometry
  /// The largest magnitude that all codecs of the layer, exact rows included, can hold.
  let magnitudeLimit: Float
  /// What attention may leave out; `nil` if nothing.
  let skipping: LayerSkipping?
  /// (kinds, heads, sides, parts).
  private let strips: UnsafeMutablePointer<nibble_strip>
  private let headCount: Int
  private static let mostParts = Int(NIBBLE_MAX_PARTS)

  init(plan: Plan, layer: Int) {
    self.plan = plan.layers[layer]
    geometry = LayerGeometry(plan: plan, layer: layer)
    let skipBelow = plan.policy.skipBelow
    skipping = skipBelow > 0 ? LayerSkipping(skipBelow: skipBelow) : nil
    headCount = self.plan.keys.count
    let rungs = self.plan.rungs
    let codecs =
      [self.plan.exactKeys, self.plan.exactValues] + rungs.flatMap { $0.keys + $0.values }
    magnitudeLimit = codecs.map(\.description.magnitudeLimit).min() ?? 0
    strips = .allocate(capacity: (2 + 2 * rungs.count) * 2 * headCount * Self.mostParts)
    for head in 0..<headCount {
      store(self.plan.sinkKeys, self.plan.sinkValues, .sink, head)
      store(self.plan.exactKeys, self.plan.exactValues, .exact, head)
      for (index, rung) in rungs.enumerated() {
        store(rung.keys[head], rung.values[head], .sealed(index), head)
        strips[slot(.decoded(index), head, .keys)] = Self.floatRows(of: rung.keys[head])
        strips[slot(.decoded(index), head, .values)] = Self.floatRows(of: rung.values[head])
      }
    }
  }

  deinit { strips.deallocate() }

  private func slot(_ kind: PageKind, _ head: Int, _ side: KVSide) -> Int {
    ((kind.index * headCount + head) * 2 + (side == .keys ? 0 : 1)) * Self.mostParts
  }

  private func store(_ keys: StripCodec, _ values: StripCodec, _ kind: PageKind, _ head: Int) {
    store(keys, at: slot(kind, head, .keys))
    store(values, at: slot(kind, head, .values))
  }

  private func store(_ codec: StripCodec, at slot: Int) {
    codec.stripLayout.withParts { parts, count in
      precondition(count <= Self.mostParts)
      let source = parts.assumingMemoryBound(to: nibble_strip.self)
      (strips + slot).initialize(from: source, count: count)
    }
  }

  /// The layout of the rows that a host's codec is decoded to.
  private static func floatRows(of codec: StripCodec) -> nibble_strip {
    var strip = nibble_strip()
    strip.kind = Int32(NIBBLE_FLOAT32.rawValue)
    strip.is_values = codec.side == .values ? 1 : 0
    strip.tokens = Int32(codec.pageTokens)
    strip.row_channels = Int32(codec.headDim)
    strip.channels = strip.row_channels
    strip.group_channels = strip.row_channels
    strip.block_tokens = min(strip.tokens, Int32(NIBBLE_MAX_BLOCK_TOKENS))
    strip.token_scale = -1
    strip.token_zero = -1
    strip.channel_scale = -1
    strip.channel_zero = -1
    strip.table = -1
    strip.outliers = -1
    nibble_strip_measure(&strip, 1)
    return strip
  }

  func keyStrip(_ kind: PageKind, head: Int) -> UnsafePointer<nibble_strip> {
    UnsafePointer(strips + slot(kind, head, .keys))
  }

  func valueStrip(_ kind: PageKind, head: Int) -> UnsafePointer<nibble_strip> {
    UnsafePointer(strips + slot(kind, head, .values))
  }

  /// A head's place in a page of this kind.
  func offsets(_ kind: PageKind, head: Int) -> PageLayout.Head {
    switch kind {
    case .sink: plan.sinkLayout.heads[head]
    case .sealed(let rung): plan.rungs[rung].pageLayout.heads[head]
    case .exact: plan.exactLayout.heads[head]
    case .decoded: decodedOffsets(head: head)
    }
  }

  /// The bytes of one head in a page as it is stored.
  func byteRange(_ kind: PageKind, head: Int) -> Range<Int> {
    let layout =
      switch kind {
      case .sink: plan.sinkLayout
      case .sealed(let rung), .decoded(let rung): plan.rungs[rung].pageLayout
      case .exact: plan.exactLayout
      }
    let next = head + 1 < headCount ? layout.heads[head + 1].keyCodes : layout.byteCount
    return layout.heads[head].keyCodes..<next
  }

  private func decodedOffsets(head: Int) -> PageLayout.Head {
    let keyBytes = Int(keyStrip(.decoded(0), head: head).pointee.code_bytes)
    return PageLayout.Head(keyCodes: 0, valueCodes: keyBytes, keySide: 0, valueSide: 0)
  }

  /// Bytes of one head's decoded page.
  func decodedByteCount(head: Int) -> Int {
    Int(keyStrip(.decoded(0), head: head).pointee.code_bytes)
      + Int(valueStrip(.decoded(0), head: head).pointee.code_bytes)
  }

  /// Whether attention must decode sealed pages of this head because a host's codec encoded them.
  func decodes(head: Int, rung: Int) -> Bool {
    plan.rungs[rung].keys[head].custom != nil || plan.rungs[rung].values[head].custom != nil
  }

  /// Whether that is so for a page of any age.
  func everDecodes(head: Int) -> Bool {
    plan.rungs.indices.contains { decodes(head: head, rung: $0) }
  }

  /// A codec of the head's values that rotates them, all of which do so alike; `nil` if none does.
  func rotatingValues(head: Int) -> StripCodec? {
    for rung in plan.rungs where rung.values[head].description.rotation != .none {
      return rung.values[head]
    }
    return nil
  }
}
