import Testing

@testable import NibbleEval

@Suite struct StatisticsTests {
  @Test(arguments: [(0.0, 1.0), (0.5, 3.0), (0.25, 2.0), (0.1, 1.4), (0.99, 4.96), (1.0, 5.0)])
  func quantilesAreInterpolated(share: Double, expected: Double) {
    #expect(abs(quantile(share, ofSorted: [1, 2, 3, 4, 5]) - expected) < 1e-12)
  }

  @Test func quantileOfOneNumber() {
    #expect(quantile(0.99, ofSorted: [7]) == 7)
    #expect(median([4, 1]) == 2.5)
  }

  @Test func summaryOfHandMadeNumbers() throws {
    // 0 … 100 in another order: mean and median 50, the 99th percentile 99.
    let sample = (0...100).map { Double($0 * 37 % 101) }
    let summary = try #require(SampleSummary(sample))
    #expect(abs(summary.mean - 50) < 1e-12)
    #expect(summary.median == 50)
    #expect(summary.percentile99 == 99)
    // The standard error of the mean is 29.15 / √101 = 2.90, so the interval is about 50 ± 5.69.
    #expect(abs(summary.meanLow - 44.31) < 0.6)
    #expect(abs(summary.meanHigh - 55.69) < 0.6)
  }

  @Test func intervalOfEqualNumbersIsAPoint() throws {
    let summary = try #require(SampleSummary([2, 2, 2]))
    #expect(summary.meanLow == 2 && summary.mean == 2 && summary.meanHigh == 2)
  }

  @Test func intervalDependsOnTheSeedAlone() throws {
    let sample = (0..<500).map { Double($0 % 17) }
    #expect(SampleSummary(sample) == SampleSummary(sample))
    #expect(SampleSummary(sample, seed: 1) != SampleSummary(sample, seed: 2))
  }

  @Test func ratiosAreDrawnInPairs() throws {
    // Each number is three times its partner, so every draw gives the same ratio.
    let baseline = (1...200).map { Double($0 * 71 % 199) }
    let steady = try #require(RatioSummary(baseline.map { 3 * $0 }, over: baseline))
    #expect(
      abs(steady.ratio - 3) < 1e-12 && abs(steady.low - 3) < 1e-9 && abs(steady.high - 3) < 1e-9
    )
    let shuffled = try #require(RatioSummary(Array(baseline.reversed()), over: baseline))
    #expect(abs(shuffled.ratio - 1) < 1e-12)
    #expect(shuffled.low < 0.95 && shuffled.high > 1.05)
    #expect(RatioSummary([1, 2], over: [1]) == nil)
    #expect(RatioSummary([1, 2], over: [0, 0]) == nil)
    #expect(RatioSummary([], over: []) == nil)
  }

  @Test func anEmptySampleHasNoSummary() {
    #expect(SampleSummary([]) == nil)
  }

  @Test func randomRowsAreStandardNormal() {
    var random = RandomRows(seed: 3)
    let values = random.normal(100_001).map(Double.init)
    let count = Double(values.count)
    let mean = values.reduce(0, +) / count
    let variance = values.reduce(0) { $0 + $1 * $1 } / count
    let fourth = values.reduce(0) { $0 + $1 * $1 * $1 * $1 } / count
    #expect(abs(mean) < 0.015)
    #expect(abs(variance - 1) < 0.02)
    #expect(abs(fourth - 3) < 0.2)
    #expect(values.allSatisfy { $0.isFinite })
  }
}
