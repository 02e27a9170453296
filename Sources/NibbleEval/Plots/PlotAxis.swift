import Foundation

/// One axis of a chart: its words, and how numbers are spread along it.
package struct PlotAxis: Sendable {
  /// How numbers are spread.
  package enum Scale: Hashable, Sendable {
    /// Evenly.
    case linear
    /// By their logarithms, from one power of the base to another; only positive numbers have a place.
    case logarithmic(base: Double)
  }

  package var title: String
  package var scale: Scale
  /// Words of a number.
  package var text: @Sendable (Double) -> String

  /// Whether a number has a place on the axis.
  func holds(_ value: Double) -> Bool {
    value.isFinite && (scale == .linear || value > 0)
  }
}

/// The part of an axis that a chart shows.
struct AxisRange {
  let scale: PlotAxis.Scale
  let lower: Double
  let upper: Double
  /// Numbers that are written at the axis.
  let ticks: [Double]

  /// The shortest range between round numbers that holds all values.
  init(_ values: [Double], scale: PlotAxis.Scale, ticks count: Int) {
    self.scale = scale
    switch scale {
    case .linear:
      (lower, upper, ticks) = Self.linear(values, count: count)
    case .logarithmic(let base):
      (lower, upper, ticks) = Self.logarithmic(values, base: base, count: count)
    }
  }

  /// 0 at the lower end, 1 at the upper one.
  func share(_ value: Double) -> Double {
    switch scale {
    case .linear: (value - lower) / (upper - lower)
    case .logarithmic: log(value / lower) / log(upper / lower)
    }
  }

  /// Steps of 1, 2 or 5 times a power of ten.
  private static func linear(
    _ values: [Double],
    count: Int
  ) -> (Double, Double, [Double]) {
    let least = values.min() ?? 0
    let largest = values.max() ?? 1
    // One number alone is shown beside a larger one, so that ticks differ.
    let most = largest > least ? largest : least + max(1, abs(least) / 2)
    let raw = (most - least) / Double(max(1, count - 1))
    let power = pow(10, floor(log10(raw)))
    let step = ([1, 2, 5, 10].first { $0 * power >= raw * (1 - 1e-9) } ?? 10) * power
    let first = floor(least / step + 1e-9)
    let last = max(ceil(most / step - 1e-9), first + 1)
    let ticks = stride(from: first, through: last, by: 1).map { $0 * step }
    return (first * step, last * step, ticks)
  }

  /// Ends at round numbers, at least one power apart; ticks at powers, or every second, third … if these are too many.
  private static func logarithmic(
    _ values: [Double],
    base: Double,
    count: Int
  ) -> (Double, Double, [Double]) {
    let exponents = values.map { log($0) / log(base) }
    // Exponents of round numbers between two powers.
    let parts: [Double] = base == 10 ? [0, log10(2.0), log10(5.0)] : [0, 0.25, 0.5, 0.75]
    // A little is cut off, so that rounding does not add a step.
    let least = (exponents.min() ?? 0) + 1e-9
    let most = max((exponents.max() ?? 1) - 1e-9, least)
    var first = floor(least) + (parts.last { $0 <= least - floor(least) } ?? 0)
    var last = floor(most) + (parts.first { $0 >= most - floor(most) } ?? 1)
    if last - first < 1 {
      first = floor(first)
      last = max(ceil(last - 1e-9), first + 1)
    }
    // Few powers of ten leave room for what lies between.
    let isShort = base == 10 && last - first < 2.1
    var shown: [Double] = []
    for power in stride(from: floor(first), through: last + 1e-9, by: 1) {
      shown += (isShort ? parts : [0]).map { power + $0 }
    }
    shown.removeAll { $0 < first - 1e-9 || $0 > last + 1e-9 }
    let every = isShort ? 1 : (shown.count - 1 + count) / count
    let ticks = stride(from: 0, to: shown.count, by: every).map { pow(base, shown[$0]) }
    return (pow(base, first), pow(base, last), ticks)
  }
}
