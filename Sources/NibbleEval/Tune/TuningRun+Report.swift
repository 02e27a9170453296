import NibbleGenerate
import NibbleKV

extension TuningRun {
  /// What there is to say about a policy.
  func report(
    _ policy: Policy,
    allotment: [Int],
    search: TuningSearch,
    windows: [TuningRow],
    comparison: TuningComparison
  ) -> TuningReport {
    let parts = search.loss(of: allotment)
    let predicted = comparison.predicted(parts: parts)
    var report = TuningReport(
      model: tuner.model.name,
      policyFile: nil,
      path: nil,
      budget: "\(tuner.budget)",
      limitBytes: cost.limit,
      context: cost.context,
      measure: measure,
      tuningTokens: tuner.text.tuning.reduce(0) { $0 + $1.count },
      checkTokens: tuner.text.check.reduce(0) { $0 + $1.count },
      lossOfParts: parts,
      lossPredicted: predicted,
      tuned: comparison.rows[0],
      bestUniform: comparison.bestUniform,
      windows: windows,
      rows: comparison.rows,
      units: unitRows(search, allotment),
      findings: []
    )
    report.findings =
      [report.outcome, report.prediction, report.sides]
      + report.exceptions + report.options
      + [windowFinding(policy, windows), limitFinding(comparison.rows)].compactMap(\.self)
    return report
  }

  private func unitRows(_ search: TuningSearch, _ allotment: [Int]) -> [TuningReport.UnitRow] {
    units.indices.map { index in
      let unit = units[index]
      let chosen = search.rungs[index][allotment[index]]
      let rungs = zip(search.rungs[index], search.losses[index]).map {
        TuningReport.RungRow(codec: "\($0.codec)", bitsPerValue: $0.bitsPerValue, loss: $1)
      }
      let heads = IndexSelection.covering(Array(unit.heads), of: shape.kvHeads)
      return TuningReport.UnitRow(
        layer: unit.layer,
        kvHeads: heads.map(\.description).joined(separator: ", "),
        side: unit.side.rawValue,
        codec: "\(chosen.codec)",
        bitsPerValue: chosen.bitsPerValue,
        rungs: rungs
      )
    }
  }

  private func windowFinding(_ policy: Policy, _ windows: [TuningRow]) -> String? {
    guard !windows.isEmpty else { return nil }
    if policy.sinks == tuner.start.sinks, policy.recent == tuner.start.recent {
      return
        "No other number of sinks or recent tokens is better for certain than \(policy.sinks) and \(policy.recent)."
    }
    return """
      \(policy.sinks) sinks and \(policy.recent) recent tokens are better at equal bytes than \(tuner.start.sinks) and \
      \(tuner.start.recent).
      """
  }

  /// Whether the model should be compressed that far.
  private func limitFinding(_ rows: [TuningRow]) -> String? {
    guard measure == .logits, let own = rows[0].sameTop1, own < tuner.leastSameTop1 else {
      return nil
    }
    let floor = NumberText.percent(tuner.leastSameTop1)
    let enough = rows.filter { ($0.sameTop1 ?? 0) >= tuner.leastSameTop1 }
      .min { $0.totalBytes < $1.totalBytes }
    let advice =
      enough.map { "The smallest policy above that is '\($0.policy)' with \($0.totalBytes) bytes." }
      ?? "None of the policies measured is above that."
    return """
      This model should not be compressed that far: only \(NumberText.percent(own)) of the positions have the same most likely \
      token, below \(floor). \(advice)
      """
  }
}

// MARK: - Sentences

extension TuningReport {
  /// What losses are, in a few words.
  var lossName: String {
    switch measure {
    case .logits: "KL divergence, nats"
    case .attention: "attention error, squared"
    }
  }

  fileprivate var outcome: String {
    let own = "\(lossName): \(NumberText.significant(tuned.loss))"
    guard let bestUniform, bestUniform.loss > 0 else {
      return "\(own); no uniform policy of the ladder fits the budget."
    }
    return """
      \(own), \(NumberText.decimal(tuned.loss / bestUniform.loss, 2)) of the best uniform policy's within the budget \
      (\(bestUniform.policy): \(NumberText.significant(bestUniform.loss))).
      """
  }

  fileprivate var prediction: String {
    """
    Predicted \(NumberText.significant(lossPredicted)), measured \(NumberText.significant(tuned.loss)); the units' losses add up to \
    \(NumberText.significant(lossOfParts)).
    """
  }

  fileprivate var sides: String {
    "Keys have \(meanBits("keys")) bits per value, values \(meanBits("values"))."
  }

  private func meanBits(_ side: String) -> String {
    let bits = units.filter { $0.side == side }.map(\.bitsPerValue)
    return NumberText.decimal(bits.reduce(0, +) / Double(max(1, bits.count)), 2)
  }

  /// Units with far more bits than most of their side.
  fileprivate var exceptions: [String] {
    ["keys", "values"].flatMap { side -> [String] in
      let own = units.filter { $0.side == side }
      guard !own.isEmpty else { return [] }
      let usual = median(own.map(\.bitsPerValue))
      return own.filter { $0.bitsPerValue > usual + 2 }.map {
        let heads = $0.kvHeads == "all" ? "" : ", KV head \($0.kvHeads)"
        return "An exception: \(side) of layer \($0.layer)\(heads) need \($0.codec)."
      }
    }
  }

  /// How often a modifier was worth it.
  fileprivate var options: [String] {
    let choices = [("mean=removed", "mean removal"), ("rotation=aligned", "calibrated transforms")]
    return choices.compactMap { option, name in
      let offered = units.filter { $0.rungs.contains { $0.codec.contains(option) } }.count
      let chosen = units.filter { $0.codec.contains(option) }.count
      return offered == 0 ? nil : "\(name): chosen for \(chosen) of \(units.count) units."
    }
  }

  /// What was compared on the text of the check, and what stands out.
  package var summary: String {
    var table = TextTable([
      ("policy", .left), ("total bytes", .right), ("bits/value", .right), ("loss [95 %]", .right),
      ("same top 1", .right),
    ])
    for row in rows {
      let interval = row.lossLow.map {
        " [\(NumberText.significant($0)), \(NumberText.significant(row.lossHigh))]"
      }
      table.append([
        row.policy, NumberText.bytes(row.totalBytes), NumberText.decimal(row.bitsPerValue, 3),
        NumberText.significant(row.loss) + (interval ?? ""), NumberText.percent(row.sameTop1),
      ])
    }
    return """
      \(model): \(lossName), on \(checkTokens) tokens that nothing was chosen by; bytes of \(context) tokens

      \(table.text)
      \(findings.map { "- \($0)" }.joined(separator: "\n"))
      """
  }

  /// The evidence as lines of a file.
  var comments: [String] {
    var table = TextTable([
      ("layer", .right), ("KV heads", .left), ("side", .left), ("codec", .left), ("bits", .right),
      ("alone", .right), ("one rung less", .right),
    ])
    for unit in units {
      let place = unit.rungs.firstIndex { $0.codec == unit.codec } ?? 0
      let less = place > 0 ? NumberText.significant(unit.rungs[place - 1].loss) : "-"
      table.append([
        "\(unit.layer)", unit.kvHeads, unit.side, unit.codec,
        NumberText.decimal(unit.bitsPerValue, 3), NumberText.significant(unit.rungs[place].loss),
        less,
      ])
    }
    let head = [
      "Chosen by nibble \(version) for \(model), budget \(budget): \(tuned.totalBytes) of \(limitBytes) bytes at \(context) tokens,",
      "\(NumberText.decimal(tuned.bitsPerValue, 3)) bits per value. Chosen by \(tuningTokens) tokens, checked on \(checkTokens) others.",
    ]
    return head + findings + ["", "\(lossName), each unit encoded alone:"]
      + table.text.split(separator: "\n").map(String.init) + [""]
  }
}
