import NibbleGenerate
import NibbleKV

/// One run of a ``PolicyTuner``.
struct TuningRun {
  let tuner: PolicyTuner
  let cost: TuningCost
  let units: [TuningUnit]
  let measure: PolicyTuner.Measure
  let progress: ProgressHandler
  let ladder: TuningLadder
  var record: TuningRecord
  /// What the tuner began with, without codecs of its own.
  let start: Policy

  var shape: ModelShape { tuner.model.shape }

  /// Finds out whether everything fits before anything is measured.
  init(_ tuner: PolicyTuner, progress: @escaping ProgressHandler) throws {
    self.tuner = tuner
    self.progress = progress
    guard !tuner.text.tuning.isEmpty, !tuner.text.check.isEmpty else {
      throw EvaluationError.nothingToMeasure(
        what:
          "tuning needs text to choose by and other text to check on; give at least two documents"
      )
    }
    try check("the least share of equal predictions", tuner.leastSameTop1, in: 0...1)
    var start = tuner.start
    start.rules = []
    start.ages = []
    (start.keys, start.values) = (start.exact, start.exact)
    self.start = start
    let shape = tuner.model.shape
    measure = tuner.measure ?? (tuner.model.vocabularySize > 0 ? .logits : .attention)
    ladder = try Self.ladder(tuner, start: start)
    cost = try TuningCost(
      budget: tuner.budget,
      start: start.encoding(ladder.keys[0], ladder.values[0]),
      context: tuner.context,
      shape: shape,
      catalogue: tuner.catalogue
    )
    let heads = shape.layers * shape.kvHeads * 2
    units = TuningUnit.all(of: shape, grouping: tuner.grouping ?? (heads <= 64 ? .heads : .layers))
    record = TuningRecord(
      path: tuner.recordPath,
      facts: [
        NibbleKVVersion.text, tuner.model.name, shape.fingerprint ?? "", "\(shape)",
        measure.rawValue,
        tuner.catalogue.calibration.map { hexadecimal($0.digest) } ?? "", start.yaml,
        tuner.text.tuning.digest,
        tuner.text.check.digest,
      ]
    )
  }

  /// The codecs of the ladder that fit the model; all of those that were given must.
  private static func ladder(_ tuner: PolicyTuner, start: Policy) throws -> TuningLadder {
    let shape = tuner.model.shape
    func plan(_ codec: CodecDescription, _ side: KVSide) throws(PolicyError) -> Plan {
      let policy = start.encoding(
        side == .keys ? codec : start.exact,
        side == .values ? codec : start.exact
      )
      return try Plan(policy: policy, shape: shape, catalogue: tuner.catalogue)
    }
    if let ladder = tuner.ladder {
      for side in KVSide.allCases {
        for codec in ladder[side] { _ = try plan(codec, side) }
      }
      return ladder
    }
    let standard = TuningLadder.standard(isCalibrated: tuner.catalogue.calibration != nil)
    return TuningLadder(
      keys: standard.keys.filter { (try? plan($0, .keys)) != nil },
      values: standard.values.filter { (try? plan($0, .values)) != nil }
    )
  }
}

extension Policy {
  /// This policy with one codec for all keys and one for all values, exact rows as they are.
  func encoding(_ keys: CodecDescription, _ values: CodecDescription) -> Policy {
    var policy = self
    policy.keys = keys
    policy.values = values
    policy.name = keys == values ? "\(keys)" : "k=\(keys)+v=\(values)"
    return policy
  }
}

// MARK: - The outcome

extension TuningRun {
  mutating func outcome() throws -> TuningOutcome {
    let screened = try screen()
    let rungs = try useful(screened)
    let losses = try losses(of: rungs)
    let search = TuningSearch(units: units, rungs: rungs, losses: losses)
    guard var (allotment, policy) = try search.policy(start, within: cost) else {
      let least = search.leastPolicy(start, shape: shape)
      throw EvaluationError.invalidOption(
        name: "the budget",
        value: "\(cost.limit) bytes at \(cost.context) tokens",
        expected:
          "at least \(try cost.bytes(of: least)), what the cheapest codecs of the ladder take"
      )
    }
    let windows = try tryWindows(policy, search: search)
    if let better = windows.better { (allotment, policy) = better }
    policy.name = TuningReport.tunedName
    let comparison = try checkRows(policy, search: search, uniform: uniform(screened))
    return TuningOutcome(
      policy: policy,
      report: report(
        policy,
        allotment: allotment,
        search: search,
        windows: windows.rows,
        comparison: comparison
      )
    )
  }
}

extension TuningRun {
  /// The rungs of each unit that are worth a measurement.
  private func useful(_ screened: [[TuningRung]]) throws -> [[TuningRung]] {
    let budget = try averageBits(screened)
    return screened.map { $0.useful(budget: budget) }
  }

  /// The bits per value that the budget leaves, by the bytes of the smallest and the largest codecs.
  private func averageBits(_ screened: [[TuningRung]]) throws -> Double {
    func ends(_ side: KVSide) -> (least: TuningRung, most: TuningRung)? {
      let rungs = units.firstIndex { $0.side == side }.map { screened[$0] } ?? []
      guard let least = rungs.min(by: { $0.bitsPerValue < $1.bitsPerValue }),
        let most = rungs.max(by: { $0.bitsPerValue < $1.bitsPerValue })
      else { return nil }
      return (least, most)
    }
    guard let keys = ends(.keys), let values = ends(.values) else { return 0 }
    let least = start.encoding(keys.least.codec, values.least.codec)
    let most = start.encoding(keys.most.codec, values.most.codec)
    let bytes = (try cost.bytes(of: least), try cost.bytes(of: most))
    let bits = (try cost.bitsPerValue(of: least), try cost.bitsPerValue(of: most))
    guard bytes.1 > bytes.0 else { return bits.0 }
    let share = Double(cost.limit - bytes.0) / Double(bytes.1 - bytes.0)
    return bits.0 + share * (bits.1 - bits.0)
  }
}
