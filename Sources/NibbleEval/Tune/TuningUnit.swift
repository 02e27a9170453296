import NibbleKV

/// What the tuner chooses one codec for: one side of some KV heads of one layer.
struct TuningUnit: Hashable, Sendable {
  /// The attention layer, from 0.
  var layer: Int
  /// The KV heads, from 0.
  var heads: Range<Int>
  var side: KVSide

  /// All units of a model: layers first, then keys before values, then heads.
  static func all(of shape: ModelShape, grouping: PolicyTuner.Grouping) -> [TuningUnit] {
    let groups: [Range<Int>] =
      switch grouping {
      case .heads: (0..<shape.kvHeads).map { $0..<$0 + 1 }
      case .layers: [0..<shape.kvHeads]
      }
    return (0..<shape.layers).flatMap { layer in
      KVSide.allCases.flatMap { side in
        groups.map { TuningUnit(layer: layer, heads: $0, side: side) }
      }
    }
  }
}

extension TuningUnit: CustomStringConvertible {
  var description: String {
    let heads =
      heads.count == 1 ? "\(heads.lowerBound)" : "\(heads.lowerBound)-\(heads.upperBound - 1)"
    return "layer \(layer) KV heads \(heads) \(side.rawValue)"
  }
}

extension Policy {
  /// This policy with a codec for each of some units; others keep their defaults, and rules and ages go.
  ///
  /// Where units cover a whole side, the codec that most of them have becomes its default.
  func with(_ codecs: [TuningUnit: CodecDescription], shape: ModelShape) -> Policy {
    var policy = self
    policy.rules = []
    policy.ages = []
    for side in KVSide.allCases {
      let own = codecs.filter { $0.key.side == side }
      let covered = own.keys.reduce(0) { $0 + $1.heads.count }
      if covered == shape.layers * shape.kvHeads { policy.set(side, mostFrequent(own)) }
      let rest = own.filter { $0.value != policy.codec(side) }
      policy.rules += rules(rest, side: side, shape: shape)
    }
    return policy
  }

  private mutating func set(_ side: KVSide, _ codec: CodecDescription) {
    switch side {
    case .keys: keys = codec
    case .values: values = codec
    }
  }

  private func mostFrequent(_ codecs: [TuningUnit: CodecDescription]) -> CodecDescription {
    var counts: [CodecDescription: Int] = [:]
    for (unit, codec) in codecs { counts[codec, default: 0] += unit.heads.count }
    // A tie must not depend on the order of a hash table.
    return counts.max { ($0.value, "\($1.key)") < ($1.value, "\($0.key)") }?.key ?? keys
  }

  /// One rule for each codec and set of heads; layers where the same heads have the same codec share it.
  private func rules(
    _ codecs: [TuningUnit: CodecDescription],
    side: KVSide,
    shape: ModelShape
  ) -> [Rule] {
    var headsOf: [LayerCodec: [Int]] = [:]
    for (unit, codec) in codecs {
      headsOf[LayerCodec(layer: unit.layer, codec: codec), default: []] += unit.heads
    }
    var layersOf: [HeadsCodec: [Int]] = [:]
    for (key, heads) in headsOf {
      layersOf[HeadsCodec(heads: heads.sorted(), codec: key.codec), default: []].append(key.layer)
    }
    let sorted = layersOf.map { (layers: $0.value.sorted(), key: $0.key) }.sorted {
      ($0.layers[0], $0.key.heads[0], "\($0.key.codec)")
        < ($1.layers[0], $1.key.heads[0], "\($1.key.codec)")
    }
    return sorted.map { layers, key in
      Rule(
        layers: IndexSelection.covering(layers, of: shape.layers),
        kvHeads: IndexSelection.covering(key.heads, of: shape.kvHeads),
        keys: side == .keys ? key.codec : nil,
        values: side == .values ? key.codec : nil
      )
    }
  }
}

private struct LayerCodec: Hashable {
  var layer: Int
  var codec: CodecDescription
}

private struct HeadsCodec: Hashable {
  var heads: [Int]
  var codec: CodecDescription
}
