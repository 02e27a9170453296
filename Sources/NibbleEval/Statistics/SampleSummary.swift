import NibbleGenerate

/// What a sample of numbers says: its mean with an interval, its middle and its tail.
public struct SampleSummary: Hashable, Sendable {
  /// The mean.
  public var mean: Double
  /// The lower end of the 95 % bootstrap interval of the mean.
  public var meanLow: Double
  /// The upper end of that interval.
  public var meanHigh: Double
  /// The median.
  public var median: Double
  /// The 99th percentile.
  public var percentile99: Double

  /// Summarises a sample; `nil` for an empty one.
  ///
  /// The interval takes the means of ``resamples`` samples drawn with replacement from this one.
  /// Equal seeds draw equal positions, so samples of one length are compared on the same draws.
  ///
  /// - Parameters:
  ///   - sample: At least one finite number.
  ///   - seed: The start of the random sequence.
  public init?(_ sample: [Double], seed: UInt64 = 1) {
    guard !sample.isEmpty else { return nil }
    let sorted = sample.sorted()
    mean = sample.reduce(0, +) / Double(sample.count)
    median = quantile(0.5, ofSorted: sorted)
    percentile99 = quantile(0.99, ofSorted: sorted)
    let means = resampledMeans(of: sample, count: Self.resamples, seed: seed).sorted()
    meanLow = quantile(0.025, ofSorted: means)
    meanHigh = quantile(0.975, ofSorted: means)
  }

  /// Samples that the bootstrap draws.
  public static let resamples = 1_000
}

/// The mean of one sample over the mean of another, drawn in pairs.
public struct RatioSummary: Hashable, Sendable {
  /// The ratio of the means.
  public var ratio: Double
  /// The lower end of its 95 % bootstrap interval.
  public var low: Double
  /// The upper end of that interval.
  public var high: Double

  /// Compares two samples; `nil` if they differ in length, are empty, or if the mean of `baseline` is 0.
  ///
  /// - Parameters:
  ///   - sample: Finite numbers that are not negative.
  ///   - baseline: As many, each at the same place as its partner.
  ///   - seed: The start of the random sequence.
  public init?(_ sample: [Double], over baseline: [Double], seed: UInt64 = 1) {
    let sum = baseline.reduce(0, +)
    guard sample.count == baseline.count, sum > 0 else { return nil }
    ratio = sample.reduce(0, +) / sum
    let means = resampledMeans(of: sample, count: SampleSummary.resamples, seed: seed)
    let others = resampledMeans(of: baseline, count: SampleSummary.resamples, seed: seed)
    // Equal seeds draw equal positions. A draw that finds nothing but zeros says nothing.
    let ratios = zip(means, others).filter { $0.1 > 0 }.map { $0.0 / $0.1 }.sorted()
    guard !ratios.isEmpty else { return nil }
    low = quantile(0.025, ofSorted: ratios)
    high = quantile(0.975, ofSorted: ratios)
  }
}

/// The value below which a share of the sample lies, interpolated between neighbours.
///
/// - Parameters:
///   - share: 0 to 1.
///   - sorted: Ascending numbers, at least one.
/// - Returns: The value.
func quantile(_ share: Double, ofSorted sorted: [Double]) -> Double {
  let position = share * Double(sorted.count - 1)
  let lower = Int(position)
  let upper = min(lower + 1, sorted.count - 1)
  return sorted[lower] + (position - Double(lower)) * (sorted[upper] - sorted[lower])
}

/// The median of an unsorted sample of at least one number.
func median(_ sample: [Double]) -> Double {
  quantile(0.5, ofSorted: sample.sorted())
}

private func resampledMeans(of sample: [Double], count: Int, seed: UInt64) -> [Double] {
  var generator = SplitMix64(seed: seed)
  let length = UInt64(sample.count)
  return (0..<count).map { _ in
    var sum = 0.0
    for _ in 0..<sample.count {
      // The bias of multiplying down to the range is below length / 2^64.
      sum += sample[Int(generator.next().multipliedFullWidth(by: length).high)]
    }
    return sum / Double(sample.count)
  }
}
