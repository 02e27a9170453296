import Foundation
import NibbleKV

/// What a tuner found on the text of the check.
struct TuningComparison {
  /// The tuned policy, then everything else.
  var rows: [TuningRow]
  /// The best uniform policy within the budget.
  var bestUniform: TuningRow?
  /// Tuned policies for other budgets: their losses added up from units, and measured.
  var others: [(parts: Double, measured: Double)]

  /// What the loss should be where the losses of units add up to `parts`: as much more or less as it is for policies for fewer
  /// and for more bytes.
  func predicted(parts: Double) -> Double {
    let factors = others.filter { $0.parts > 0 && $0.measured > 0 }
      .map { (at: log($0.parts), factor: log($0.measured / $0.parts)) }.sorted { $0.at < $1.at }
    guard parts > 0, let first = factors.first, let last = factors.last else { return parts }
    let at = min(max(log(parts), first.at), last.at)
    let above = factors.first { $0.at >= at } ?? last
    let below = factors.last { $0.at <= at } ?? first
    let share = above.at > below.at ? (at - below.at) / (above.at - below.at) : 0
    return parts * exp(below.factor + share * (above.factor - below.factor))
  }
}

extension TuningRun {
  /// Bits per value that policies for other budgets have more than the tuned one.
  private static let otherBudgets = [-1, -0.5, 0.5, 1]
  /// Uniform policies that are compared.
  private static let uniformCount = 8

  /// Other numbers of sinks and recent tokens at equal bytes.
  ///
  /// - Returns: All of them, and the best of those that are better for certain, by the interval of the ratio.
  mutating func tryWindows(
    _ policy: Policy,
    search: TuningSearch
  ) throws -> (rows: [TuningRow], better: (allotment: [Int], policy: Policy)?) {
    guard tuner.triesWindows, measure == .logits else { return ([], nil) }
    let longest = tuner.text.tuning.map(\.count).max() ?? 0
    let starts =
      [0, 4, 16, 64].map { start.with(sinks: $0, recent: start.recent) }
      + [0, 32, 64, 128, 256].map { start.with(sinks: start.sinks, recent: $0) }
    // A window that most of the text fits in is not compared on it.
    let others = starts.filter {
      ($0.sinks, $0.recent) != (start.sinks, start.recent) && 4 * ($0.sinks + $0.recent) <= longest
    }
    var policies = [policy.named(windows: policy)]
    let fitting = try others.compactMap { try search.policy($0, within: cost) }
    policies += fitting.map { $0.policy.named(windows: $0.policy) }
    let rows = try compare(policies, on: tuner.text.tuning, phase: "windows")
    let better = zip(rows.dropFirst(), fitting).filter { ($0.0.ratioHigh ?? 1) < 1 }
      .min { ($0.0.ratio ?? 1) < ($1.0.ratio ?? 1) }
    return (rows, better?.1)
  }

  /// The policy beside tuned ones for other budgets, uniform ones and presets, on text that nothing was chosen by.
  mutating func checkRows(
    _ policy: Policy,
    search: TuningSearch,
    uniform: [Policy]
  ) throws -> TuningComparison {
    var others: [(parts: Double, policy: Policy)] = []
    for bits in Self.otherBudgets {
      let changed = try cost.changed(byBitsPerValue: bits, of: policy)
      guard let found = try search.policy(policy, within: changed) else { continue }
      var other = found.policy
      other.name = "tuned, \(NumberText.decimal(try cost.bitsPerValue(of: other), 2)) bits"
      let isNew =
        other.rules != policy.rules || other.keys != policy.keys || other.values != policy.values
      if isNew, !others.contains(where: { $0.policy.name == other.name }) {
        others.append((search.loss(of: found.allotment), other))
      }
    }
    let presets = Policy.presets.filter { preset in
      preset != .exact
        && (try? Plan(policy: preset, shape: shape, catalogue: tuner.catalogue)) != nil
    }
    let rows = try compare(
      [policy] + others.map(\.policy) + uniform + presets,
      on: tuner.text.check,
      phase: "check"
    )
    return TuningComparison(
      rows: rows,
      bestUniform: rows[(1 + others.count)..<(1 + others.count + uniform.count)]
        .min { $0.loss < $1.loss },
      others: zip(others, rows.dropFirst()).map { ($0.parts, $1.loss) }
    )
  }

  /// The policies with one codec for all keys and one for all values that should lose least within the budget, by the errors of attention's
  /// outputs; among them the best with the same codec for both.
  func uniform(_ screened: [[TuningRung]]) throws -> [Policy] {
    func candidates(_ side: KVSide) -> [TuningRung] {
      let own = units.indices.filter { units[$0].side == side }
      guard let first = own.first else { return [] }
      return screened[first].indices.map { rung in
        TuningRung(
          codec: screened[first][rung].codec,
          bitsPerValue: screened[first][rung].bitsPerValue,
          attentionError: own.reduce(0) { $0 + screened[$1][rung].attentionError }
        )
      }
    }
    let values = candidates(.values)
    let pairs = candidates(.keys).flatMap { key in values.map { (key: key, value: $0) } }.sorted {
      $0.key.attentionError + $0.value.attentionError
        < $1.key.attentionError + $1.value.attentionError
    }
    var policies: [Policy] = []
    for pair in pairs {
      let isPlain = pair.key.codec == pair.value.codec
      guard policies.count < Self.uniformCount || isPlain else { continue }
      let policy = start.encoding(pair.key.codec, pair.value.codec)
      guard try cost.fits(policy) else { continue }
      policies.append(policy)
      if policies.count >= Self.uniformCount, policies.contains(where: { $0.keys == $0.values }) {
        break
      }
    }
    return policies
  }
}

extension Policy {
  /// This policy with other windows.
  fileprivate func with(sinks: Int, recent: Int) -> Policy {
    var policy = self
    policy.sinks = sinks
    policy.recent = recent
    return policy
  }

  /// This policy under the name of its windows.
  fileprivate func named(windows: Policy) -> Policy {
    var policy = self
    policy.name = "sinks \(windows.sinks), recent \(windows.recent)"
    return policy
  }
}
