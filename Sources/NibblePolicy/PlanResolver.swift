internal import NibbleCodec

/// Decides which codec every strip gets, and remembers why.
struct PlanResolver {
  private let policy: Policy
  private let shape: ModelShape
  private let catalogue: CodecCatalogue
  private let replacesTrellis: Bool
  /// What decided each strip, in the order of ``Plan/entries``.
  private var decisions: [Decision]
  private(set) var notes: [String]

  private enum Decision: Hashable {
    case defaults
    case rule(Int)
    case shortWindow(Int)
    /// No decision about a strip: what asks for a codec that pages become with age.
    case age(Int)
  }

  init(policy: Policy, shape: ModelShape, catalogue: CodecCatalogue) {
    self.policy = policy
    self.shape = shape
    self.catalogue = catalogue
    replacesTrellis = policy.replacesTrellis(headDim: shape.headDim)
    decisions = Array(repeating: .defaults, count: shape.layers * 2 * shape.kvHeads)
    notes = []
    if policy.sinks > 0 {
      notes.append("the first \(policy.sinks) tokens (sinks) stay \(policy.exact) for good")
    }
    let tail = policy.recent + policy.pageTokens
    notes.append(
      "the newest \(policy.recent) tokens stay \(policy.exact), "
        + "and up to \(tail) do until their page is full"
    )
    if replacesTrellis {
      notes.append(
        "head dimension \(shape.headDim) with pages of \(policy.pageTokens) tokens has no room for a trellis: "
          + "rotated codes of as many bits take its place"
      )
    }
    for age in policy.ages {
      let sides = KVSide.allCases.compactMap { side in
        age.codec(side).map { "\(side.rawValue) \($0)" }
      }
      notes.append(
        "pages beyond the newest \(age.beyond) tokens are encoded again, where that makes them smaller: "
          + sides.joined(separator: ", ")
      )
    }
  }

  /// Applies the rules in order, so that later ones win.
  mutating func applyRules() throws(PolicyError) {
    for (index, rule) in policy.rules.enumerated() {
      let layers = try indices(rule.layers, "layers", of: index, count: shape.layers)
      let heads = try indices(rule.kvHeads, "kv_heads", of: index, count: shape.kvHeads)
      for side in KVSide.allCases where rule.codec(side) != nil {
        for layer in layers {
          for head in heads {
            decisions[position(layer, side, head)] = .rule(index)
          }
        }
      }
    }
  }

  /// A layer whose window fits into the tail gains nothing from compression: attention reads
  /// hardly any sealed page of it.
  mutating func leaveShortWindowsExact() {
    let tail = policy.recent + policy.pageTokens
    for (layer, window) in shape.slidingWindows.enumerated() {
      guard let window, window <= tail else { continue }
      var isChanged = false
      for side in KVSide.allCases {
        for head in 0..<shape.kvHeads {
          let here = position(layer, side, head)
          guard !codec(decisions[here], side).isExactRows else { continue }
          decisions[here] = .shortWindow(window)
          isChanged = true
        }
      }
      if isChanged {
        notes.append(
          "layer \(layer) stays \(policy.exact): its sliding window of \(window) tokens "
            + "is not longer than the tail (recent \(policy.recent) + page \(policy.pageTokens))"
        )
      }
    }
  }

  private func indices(
    _ selections: [IndexSelection],
    _ key: String,
    of rule: Int,
    count: Int
  ) throws(PolicyError) -> [Int] {
    var isSelected = Array(repeating: false, count: count)
    let marks = policy.rules[rule].marks
    for (item, selection) in selections.enumerated() {
      do {
        let thing = key == "layers" ? "attention layer" : "KV head"
        for index in try selection.resolved(count: count, thing: thing) { isSelected[index] = true }
      } catch {
        throw PolicyError(
          "rule \(rule + 1): \(error.message)",
          hint: error.hint,
          advice: error.advice,
          at: marks["\(key).\(item)"],
          of: marks.file
        )
      }
    }
    return isSelected.indices.filter { isSelected[$0] }
  }

  private func position(_ layer: Int, _ side: KVSide, _ head: Int) -> Int {
    (layer * 2 + (side == .keys ? 0 : 1)) * shape.kvHeads + head
  }

  private func codec(_ decision: Decision, _ side: KVSide) -> CodecDescription {
    let codec =
      switch decision {
      case .defaults: policy.codec(side)
      case .rule(let index): policy.rules[index].codec(side) ?? policy.codec(side)
      case .shortWindow: policy.exact
      case .age(let index): policy.ages[index].codec(side) ?? policy.codec(side)
      }
    return codec.code == .trellis && replacesTrellis ? .rotated(codec.bits).centred : codec
  }
}

// MARK: - Strips, pages and entries

extension PlanResolver {
  /// The strips of every layer.
  ///
  /// Equal strips are made once.
  func layers(sinkPageTokens: Int) throws(PolicyError) -> [Plan.Layer] {
    let exactKeys = try exactStrip(.keys, policy.pageTokens)
    let exactValues = try exactStrip(.values, policy.pageTokens)
    let sinkKeys = try exactStrip(.keys, sinkPageTokens)
    let sinkValues = try exactStrip(.values, sinkPageTokens)
    let exactLayout = layout(exactKeys, exactValues)
    let sinkLayout = layout(sinkKeys, sinkValues)

    var known: [StripKind: StripCodec] = [:]
    var layers: [Plan.Layer] = []
    for layer in 0..<shape.layers {
      layers.append(
        Plan.Layer(
          rungs: try rungs(layer, &known),
          exactKeys: exactKeys,
          exactValues: exactValues,
          exactLayout: exactLayout,
          sinkKeys: sinkKeys,
          sinkValues: sinkValues,
          sinkLayout: sinkLayout
        )
      )
    }
    return layers
  }

  func entries(of layers: [Plan.Layer]) -> [Plan.Entry] {
    var reasons: [ReasonKey: String] = [:]
    var entries: [Plan.Entry] = []
    entries.reserveCapacity(decisions.count)
    for (index, layer) in layers.enumerated() {
      for side in KVSide.allCases {
        let strips = side == .keys ? layer.keys : layer.values
        for (head, strip) in strips.enumerated() {
          let decision = decisions[position(index, side, head)]
          let key = ReasonKey(decision: decision, side: side)
          let reason = reasons[key] ?? reason(decision, side)
          reasons[key] = reason
          entries.append(
            Plan.Entry(
              layer: index,
              head: head,
              side: side,
              codec: strip.description,
              bitsPerValue: strip.bitsPerValue,
              bytesPerToken: Double(strip.bytes.total) / Double(strip.pageTokens),
              reason: reason
            )
          )
        }
      }
    }
    return entries
  }

  /// What pages of a layer are sealed as, and what each age makes of them.
  private func rungs(
    _ layer: Int,
    _ known: inout [StripKind: StripCodec]
  ) throws(PolicyError) -> [Plan.Rung] {
    let keys = try strips(layer, .keys, &known)
    let values = try strips(layer, .values, &known)
    var rungs = [rung(beyond: 0, keys, values)]
    for index in policy.ages.indices {
      let last = rungs[rungs.count - 1]
      let keys = try aged(last.keys, .keys, age: index, layer, &known)
      let values = try aged(last.values, .values, age: index, layer, &known)
      guard keys.isChanged || values.isChanged else { continue }
      rungs.append(rung(beyond: policy.ages[index].beyond, keys.strips, values.strips))
    }
    return rungs
  }

  private func rung(beyond: Int, _ keys: [StripCodec], _ values: [StripCodec]) -> Plan.Rung {
    let layout = PageLayout(keys: keys, values: values, hasSummaries: policy.skipBelow > 0)
    return Plan.Rung(beyond: beyond, keys: keys, values: values, pageLayout: layout)
  }

  /// Strips as an age leaves them: encoded again where that makes them smaller.
  private func aged(
    _ strips: [StripCodec],
    _ side: KVSide,
    age index: Int,
    _ layer: Int,
    _ known: inout [StripKind: StripCodec]
  ) throws(PolicyError) -> (strips: [StripCodec], isChanged: Bool) {
    guard let codec = policy.ages[index].codec(side) else { return (strips, false) }
    var aged = strips
    var isChanged = false
    for (head, strip) in strips.enumerated() where !strip.description.isExactRows {
      let place = codec.needsCalibration ? Place(layer: layer, head: head) : nil
      let kind = StripKind(codec: codec, side: side, place: place)
      let next: StripCodec
      if let made = known[kind] {
        next = made
      } else {
        next = try self.strip(kind, .age(index))
        known[kind] = next
      }
      guard next.bytes.total < strip.bytes.total else { continue }
      try checkSpaces(next, after: strip, age: index)
      aged[head] = next
      isChanged = true
    }
    return (aged, isChanged)
  }

  /// Attention gathers values in two spaces, the model's and that of one rotation.
  private func checkSpaces(
    _ next: StripCodec,
    after strip: StripCodec,
    age: Int
  ) throws(PolicyError) {
    let (old, new) = (strip.description.rotation, next.description.rotation)
    guard next.side == .values, old != .none, new != .none, old != new else { return }
    let error = PolicyError(
      "age \(age + 1), values: a rotation '\(new.rawValue)' cannot follow '\(old.rawValue)'",
      advice: "rotate the values of a head alike at all ages"
    )
    throw located(error, .age(age), .values)
  }

  private struct ReasonKey: Hashable {
    var decision: Decision
    var side: KVSide
  }

  private struct StripKind: Hashable {
    var codec: CodecDescription
    var side: KVSide
    /// Where the strip has a transform of its own.
    var place: Place?
  }

  private struct Place: Hashable {
    var layer, head: Int
  }

  private func strips(
    _ layer: Int,
    _ side: KVSide,
    _ known: inout [StripKind: StripCodec]
  ) throws(PolicyError) -> [StripCodec] {
    var strips: [StripCodec] = []
    for head in 0..<shape.kvHeads {
      let decision = decisions[position(layer, side, head)]
      let codec = codec(decision, side)
      let place = codec.needsCalibration ? Place(layer: layer, head: head) : nil
      let kind = StripKind(codec: codec, side: side, place: place)
      if let strip = known[kind] {
        strips.append(strip)
      } else {
        let strip = try strip(kind, decision)
        known[kind] = strip
        strips.append(strip)
      }
    }
    return strips
  }

  private func strip(_ kind: StripKind, _ decision: Decision) throws(PolicyError) -> StripCodec {
    let strip: StripCodec
    do {
      let transform = try kind.place.flatMap { place throws(CodecError) in
        try calibration()?.transform(layer: place.layer, head: place.head, side: kind.side)
      }
      strip = try catalogue.strip(
        kind.codec,
        side: kind.side,
        headDim: shape.headDim,
        pageTokens: policy.pageTokens,
        transform: transform
      )
    } catch {
      let about = "\(subject(decision, kind.side)): "
      throw located(PolicyError(error, about: about, at: nil, of: nil), decision, kind.side)
    }
    // A host's codec may ask for any size; the arithmetic of long contexts must not overflow.
    let limit = 16 * 4 * shape.headDim * policy.pageTokens
    guard (1...limit).contains(strip.bytes.total) else {
      let message =
        "codec '\(kind.codec)' asks for \(strip.bytes.total) bytes a strip; expected 1 to \(limit)"
      throw located(PolicyError(message), decision, kind.side)
    }
    return strip
  }

  /// The calibration, if it is this model's.
  private func calibration() throws(CodecError) -> Calibration? {
    guard let calibration = catalogue.calibration else { return nil }
    guard calibration.fingerprint == shape.fingerprint else {
      throw .foreignCalibration(
        fingerprint: calibration.fingerprint,
        model: shape.fingerprint
      )
    }
    let made = [calibration.layerCount, calibration.headCount, calibration.headDim]
    let needed = [shape.layers, shape.kvHeads, shape.headDim]
    guard made == needed else {
      throw .invalidTransform(
        reason: "the calibration is for (layers, KV heads, head dimension) \(made), not \(needed)"
      )
    }
    return calibration
  }

  private func exactStrip(_ side: KVSide, _ pageTokens: Int) throws(PolicyError) -> StripCodec {
    do {
      return try catalogue.strip(
        policy.exact,
        side: side,
        headDim: shape.headDim,
        pageTokens: pageTokens
      )
    } catch {
      let mark = policy.marks["exact_rows"]
      throw PolicyError(error, about: "exact rows: ", at: mark, of: policy.marks.file)
    }
  }

  private func layout(_ keys: StripCodec, _ values: StripCodec) -> PageLayout {
    PageLayout(
      keys: Array(repeating: keys, count: shape.kvHeads),
      values: Array(repeating: values, count: shape.kvHeads)
    )
  }
}

// MARK: - Reasons

extension PlanResolver {
  private func reason(_ decision: Decision, _ side: KVSide) -> String {
    switch decision {
    case .defaults:
      return policy.matchingPreset.map { "preset \($0)" } ?? "default \(side.rawValue)"
    case .rule(let index):
      let rule = policy.rules[index]
      if let mark = rule.marks["rule"] {
        let place = rule.marks.file.map { "\(lastPathComponent($0)):" } ?? "line "
        return "rule \(index + 1) (\(place)\(mark.line))"
      }
      return (policy.matchingPreset.map { "preset \($0), " } ?? "") + "rule \(index + 1)"
    case .shortWindow(let window):
      return "window \(window) within the tail"
    case .age(let index):
      return "age \(index + 1)"
    }
  }

  private func subject(_ decision: Decision, _ side: KVSide) -> String {
    if case .rule(let index) = decision { return "rule \(index + 1), \(side.rawValue)" }
    if case .age(let index) = decision { return "age \(index + 1), \(side.rawValue)" }
    return side.rawValue
  }

  private func located(
    _ error: PolicyError,
    _ decision: Decision,
    _ side: KVSide
  ) -> PolicyError {
    var marks = policy.marks
    if case .rule(let index) = decision { marks = policy.rules[index].marks }
    if case .age(let index) = decision { marks = policy.ages[index].marks }
    var error = error
    error.file = marks.file
    error.line = marks[side.rawValue]?.line
    error.column = marks[side.rawValue]?.column
    return error
  }
}
