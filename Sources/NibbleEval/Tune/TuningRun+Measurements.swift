import NibbleGenerate
import NibbleKV

// MARK: - Each unit by itself

extension TuningRun {
  /// Tokens of text that codecs are screened with.
  private static let screeningTokens = 2_048
  /// Policies that are measured side by side, since each has a cache.
  private static let batch = 16

  /// What each codec of the ladder does to attention on each unit: all keys, or all values, are encoded with it, and each
  /// layer attends behind exact ones.
  mutating func screen() throws -> [[TuningRung]] {
    var rungs = units.map { _ in [TuningRung]() }
    for side in KVSide.allCases {
      let codecs = ladder[side]
      for codecs in codecs.batches(of: Self.batch) {
        let policies = codecs.map {
          start.encoding(
            side == .keys ? $0 : .float32,
            side == .values ? $0 : .float32
          )
        }
        let errors = try attentionErrors(policies, side: side)
        for (policy, errors) in zip(policies, errors) {
          let plan = try Plan(policy: policy, shape: shape, catalogue: tuner.catalogue)
          for (index, unit) in units.enumerated() where unit.side == side {
            let entry = plan.entry(layer: unit.layer, head: unit.heads.lowerBound, side: side)
            rungs[index].append(
              TuningRung(
                codec: entry.codec,
                bitsPerValue: entry.bitsPerValue,
                attentionError: errors[index] ?? 0
              )
            )
          }
        }
      }
    }
    return rungs
  }

  /// The attention error of each unit of a side under each policy.
  private mutating func attentionErrors(
    _ policies: [Policy],
    side: KVSide
  ) throws -> [[Int: Double]] {
    func name(_ policy: Policy, _ unit: TuningUnit) -> String {
      "attention, \(policy.label), \(unit)"
    }
    let own = units.indices.filter { units[$0].side == side }
    let isKnown = policies.allSatisfy { policy in
      own.allSatisfy { record[name(policy, units[$0])] != nil }
    }
    if !isKnown {
      let tallies = try comparison(tuner.text.tuning.prefix(tokens: Self.screeningTokens))
        .attention(policies, progress: renamed("attention, \(side.rawValue)"))
      for (policy, tally) in zip(policies, tallies) {
        for index in own {
          let unit = units[index]
          record[name(policy, unit)] = tally.error(layer: unit.layer, heads: unit.heads)
        }
      }
      try record.save()
    }
    return policies.map { policy in
      Dictionary(uniqueKeysWithValues: own.map { ($0, record[name(policy, units[$0])] ?? 0) })
    }
  }

  /// The loss of each rung of each unit, everything else exact.
  mutating func losses(of rungs: [[TuningRung]]) throws -> [[Double]] {
    if measure == .attention { return rungs.map { $0.map(\.attentionError) } }
    let tries = zip(units, rungs).flatMap { unit, rungs in
      rungs.map { (name: "alone, \($0.codec), \(unit)", unit: unit, codec: $0.codec) }
    }
    let missing = tries.filter { record[$0.name] == nil }
    for (number, batch) in missing.batches(of: Self.batch).enumerated() {
      let policies = batch.map { start.alone($0.unit, $0.codec, shape: shape) }
      let first = tries.count - missing.count + number * Self.batch
      let rows = try rows(policies, of: tuner.text.tuning) { [progress] step in
        progress(
          WorkProgress(
            phase: "each unit alone",
            completed: first * step.total + batch.count * step.completed,
            total: tries.count * step.total
          )
        )
      }
      for (item, row) in zip(batch, rows) { record[item.name] = row.loss }
      try record.save()
    }
    var losses = tries.map { record[$0.name] ?? 0 }[...]
    return rungs.map { rungs in rungs.map { _ in losses.removeFirst() } }
  }

  private func comparison(_ documents: [[Int]]) -> CodecModelComparison {
    CodecModelComparison(
      policies: PolicyComparison(
        model: tuner.model,
        documents: documents,
        questions: [],
        threads: tuner.threads,
        catalogue: tuner.catalogue
      )
    )
  }

  private func renamed(_ phase: String) -> ProgressHandler {
    { [progress] step in
      progress(WorkProgress(phase: phase, completed: step.completed, total: step.total))
    }
  }
}

extension Policy {
  /// This policy with one unit encoded and everything else in float32.
  func alone(_ unit: TuningUnit, _ codec: CodecDescription, shape: ModelShape) -> Policy {
    var policy = encoding(.float32, .float32)
    policy.exact = .float32
    return policy.with([unit: codec], shape: shape)
  }
}

// MARK: - Whole policies

extension TuningRun {
  /// Compares policies on a text, or takes from the record what an equal comparison found.
  mutating func compare(
    _ policies: [Policy],
    on documents: [[Int]],
    phase: String
  ) throws -> [TuningRow] {
    // Rows tell bytes too, which are those of a context.
    let facts = [phase, "\(tuner.budget)", "\(cost.context)"] + policies.map(\.yaml)
    if let rows = record[comparison: facts] { return rows }
    let rows = try rows(policies, of: documents, progress: renamed(phase))
    record[comparison: facts] = rows
    try record.save()
    return rows
  }

  private func rows(
    _ policies: [Policy],
    of documents: [[Int]],
    progress: @escaping ProgressHandler
  ) throws -> [TuningRow] {
    switch measure {
    case .logits:
      let evaluation = try QualityEvaluation(
        model: tuner.model,
        policies: policies,
        threads: tuner.threads,
        catalogue: tuner.catalogue
      )
      let results = try evaluation.run(
        documents: documents,
        baselines: [0],
        atCommonPositions: true,
        progress: progress
      )
      return try zip(policies, results).map { try row($0, $1) }
    case .attention:
      let tallies = try comparison(documents).attention(policies, progress: progress)
      return try zip(policies, tallies).map { try row($0, $1) }
    }
  }

  private func row(_ policy: Policy, _ result: QualityResult) throws -> TuningRow {
    guard let divergence = result.divergence else {
      throw EvaluationError.nothingToMeasure(
        what:
          "documents are too short: none of \(result.tokens) tokens follows a compressed page of policy '\(policy.label)'"
      )
    }
    return TuningRow(
      policy: policy.label,
      totalBytes: try cost.bytes(of: policy),
      bitsPerValue: try cost.bitsPerValue(of: policy),
      loss: divergence.mean,
      lossLow: divergence.meanLow,
      lossHigh: divergence.meanHigh,
      ratio: result.divergenceRatio?.ratio,
      ratioLow: result.divergenceRatio?.low,
      ratioHigh: result.divergenceRatio?.high,
      sameTop1: result.sameTop1,
      compressedTokens: result.compressedTokens,
      positions: result.positions
    )
  }

  private func row(_ policy: Policy, _ tally: AttentionTally) throws -> TuningRow {
    let layers = (0..<shape.layers).map { tally.error(layer: $0, heads: 0..<shape.kvHeads) }
    return TuningRow(
      policy: policy.label,
      totalBytes: try cost.bytes(of: policy),
      bitsPerValue: try cost.bitsPerValue(of: policy),
      loss: layers.reduce(0, +),
      lossLow: nil,
      lossHigh: nil,
      ratio: nil,
      ratioLow: nil,
      ratioHigh: nil,
      sameTop1: nil,
      compressedTokens: tally.compressedTokens,
      positions: tally.attention.count
    )
  }
}

extension Array {
  /// Consecutive elements, so many at a time.
  func batches(of size: Int) -> [[Element]] {
    stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
  }
}
