import NibbleKV

extension PageReport {
  /// Looks at what a sequence holds.
  ///
  /// - Parameter sequence: Not changed by others meanwhile.
  /// - Throws: `KVError`.
  init(_ sequence: KVSequence) throws(KVError) {
    let plan = sequence.cache.plan
    policy = plan.policy.label
    tokens = sequence.tokenCount
    pageTokens = plan.policy.pageTokens
    sinks = min(plan.policy.sinks, tokens)
    rows = []
    for layer in plan.layers.indices {
      let stretches = try sequence.stretches(layer: layer)
      for side in KVSide.allCases {
        for heads in Self.headGroups(plan.layers[layer], side) {
          rows.append(
            Row(
              layer: layer,
              kvHeads: IndexSelection.text([heads], of: plan.shape.kvHeads),
              side: side.rawValue,
              stretches: stretches.map {
                Stretch($0, plan.layers[layer], side: side, head: heads.lowerBound)
              }
            )
          )
        }
      }
    }
  }

  /// Neighbouring heads whose strips are encoded alike at every age.
  private static func headGroups(_ layer: Plan.Layer, _ side: KVSide) -> [ClosedRange<Int>] {
    func codecs(_ head: Int) -> [CodecDescription] {
      layer.rungs.map { (side == .keys ? $0.keys : $0.values)[head].description }
    }
    var groups: [ClosedRange<Int>] = []
    for head in layer.keys.indices {
      if let last = groups.last, codecs(last.lowerBound) == codecs(head) {
        groups[groups.count - 1] = last.lowerBound...head
      } else {
        groups.append(head...head)
      }
    }
    return groups
  }
}

extension PageReport.Stretch {
  /// The kind of tokens in encoded pages.
  static let sealed = "sealed"

  fileprivate init(_ stretch: PageStretch, _ layer: Plan.Layer, side: KVSide, head: Int) {
    let isKeys = side == .keys
    let strip: StripCodec?
    switch stretch.kind {
    case .sinks:
      kind = "sinks"
      strip = isKeys ? layer.sinkKeys : layer.sinkValues
    case .dropped:
      kind = "dropped"
      strip = nil
    case .sealed(let rung):
      kind = Self.sealed
      strip = (isKeys ? layer.rungs[rung].keys : layer.rungs[rung].values)[head]
    case .exact:
      kind = "tail"
      strip = isKeys ? layer.exactKeys : layer.exactValues
    }
    firstToken = stretch.tokens.lowerBound
    tokens = stretch.tokens.count
    codec = strip.map { "\($0.description)" }
    bitsPerValue = strip?.bitsPerValue
  }
}
