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
  /// - Returns: For each unit the index of its rung, and the policy; `nil` if not even the cheapest rungs fit.
  /// - Throws: `PolicyError` if a policy does not fit the model.
  func policy(
    _ start: Policy,
    within cost: TuningCost
  ) throws(PolicyError) -> (allotment: [Int], policy: Policy)? {
    let found = try allotments.best { (allotment) throws(PolicyError) in
      try cost.fits(policy(start, allotment, cost.shape))
    }
    return found.map { ($0, policy(start, $0, cost.shape)) }
  }

  /// The policy of the cheapest rungs.
  func leastPolicy(_ start: Policy, shape: ModelShape) -> Policy {
    policy(start, allotments.hulls.map { $0[0] }, shape)
  }

  /// The losses of an allotment's rungs, added up.
  func loss(of allotment: [Int]) -> Double { allotments.loss(of: allotment) }

  private func policy(_ start: Policy, _ allotment: [Int], _ shape: ModelShape) -> Policy {
    var codecs: [TuningUnit: CodecDescription] = [:]
    for (index, unit) in units.enumerated() { codecs[unit] = rungs[index][allotment[index]].codec }
    return start.with(codecs, shape: shape)
  }
}
