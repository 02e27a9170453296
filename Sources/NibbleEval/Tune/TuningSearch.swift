import NibbleKV

/// Policies for any number of bytes, out of what each rung of each unit does alone.
struct TuningSearch {
  let units: [TuningUnit]
  /// The rungs of each unit.
  let rungs: [[TuningRung]]
  /// The loss of each rung, its unit encoded alone.
  let losses: [[Double]]
  private let allotments: BitAllotment

  init(units: [TuningUnit], rungs: [[TuningRung]], losses: [[Double]]) {
    self.units = units
    self.rungs = rungs
    self.losses = losses
    allotments = BitAllotment(
      zip(zip(units, rungs), losses).map { unit, losses in
        zip(unit.1, losses).map { rung, loss in
          AllotmentChoice(cost: rung.bitsPerValue * Double(unit.0.heads.count), loss: loss)
        }
      }
    )
  }

  /// The best policy with the windows of another.
  ///
  /// - Returns: For each unit the index of its rung, and the policy.
  /// - Throws: ``EvaluationError/invalidOption(name:value:expected:)`` if not even the cheapest rungs fit.
  func policy(_ start: Policy, within cost: TuningCost) throws -> (allotment: [Int], policy: Policy)
  {
    guard let found = try allotments.best(fits: { try cost.fits(policy(start, $0, cost.shape)) })
    else {
      let least = policy(start, allotments.hulls.map { $0[0] }, cost.shape)
      throw EvaluationError.invalidOption(
        name: "the budget",
        value: "\(cost.limit) bytes at \(cost.context) tokens",
        expected:
          "at least \(try cost.bytes(of: least)), what the cheapest codecs of the ladder take"
      )
    }
    return (found, policy(start, found, cost.shape))
  }

  /// The losses of an allotment's rungs, added up.
  func loss(of allotment: [Int]) -> Double { allotments.loss(of: allotment) }

  private func policy(_ start: Policy, _ allotment: [Int], _ shape: ModelShape) -> Policy {
    var codecs: [TuningUnit: CodecDescription] = [:]
    for (index, unit) in units.enumerated() { codecs[unit] = rungs[index][allotment[index]].codec }
    return start.with(codecs, shape: shape)
  }
}
