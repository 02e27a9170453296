import CNibble
import Testing

/// One-dimensional k-means against trying every partition.
@Suite struct KMeansTests {
  @Test(arguments: 0..<300)
  func isOptimal(seed: Int) {
    var random = SeededRandom(UInt64(seed))
    let bins = Int.random(in: 1...12, using: &random)
    let levels = Int.random(in: 1...min(5, bins), using: &random)
    var histogram = Histogram()
    for bin in 0..<bins {
      let isEmpty = Int.random(in: 0..<4, using: &random) == 0
      let weight = isEmpty ? 0 : Double.random(in: 0.01..<3, using: &random)
      histogram.weight.append(weight)
      // The mean of a bin lies within it.
      histogram.moment.append(weight * (Double(bin) + Double.random(in: 0..<1, using: &random)))
    }
    var centroids = [Double](repeating: .nan, count: levels)
    nibble_kmeans_histogram(
      histogram.weight,
      histogram.moment,
      Int32(bins),
      Int32(levels),
      &centroids
    )
    #expect(zip(centroids, centroids.dropFirst()).allSatisfy { $0 <= $1 })
    let best = histogram.leastCost(from: 0, levels: levels)
    #expect(abs(histogram.cost(of: centroids) - best) <= 1e-9 * max(1, best))
  }

  @Test func fewValuesManyLevels() {
    // Two values: the outermost centroids are theirs, and nothing is lost.
    var weight = [Double](repeating: 0, count: 256)
    var moment = weight
    weight[3] = 5
    moment[3] = 5 * 3.25
    weight[200] = 1
    moment[200] = 200.5
    var centroids = [Double](repeating: .nan, count: 16)
    nibble_kmeans_histogram(weight, moment, 256, 16, &centroids)
    #expect(centroids.contains { abs($0 - 3.25) < 1e-9 })
    #expect(centroids.contains { abs($0 - 200.5) < 1e-9 })
    #expect(centroids.allSatisfy { (0...256).contains($0) })
    #expect(zip(centroids, centroids.dropFirst()).allSatisfy { $0 <= $1 })
  }

  @Test func emptyHistogram() {
    var centroids = [Double](repeating: .nan, count: 4)
    let nothing = [Double](repeating: 0, count: 8)
    nibble_kmeans_histogram(nothing, nothing, 8, 4, &centroids)
    #expect(centroids.allSatisfy { (0...8).contains($0) })
  }
}

private struct Histogram {
  var weight: [Double] = []
  var moment: [Double] = []

  private func position(_ bin: Int) -> Double {
    weight[bin] > 0 ? moment[bin] / weight[bin] : Double(bin)
  }

  /// Every bin goes to its nearest centroid.
  func cost(of centroids: [Double]) -> Double {
    weight.indices.reduce(0) { sum, bin in
      let least = centroids.map { ($0 - position(bin)) * ($0 - position(bin)) }.min() ?? 0
      return sum + weight[bin] * least
    }
  }

  /// The least cost of `levels` stretches of the bins from `first` on, by trying all.
  func leastCost(from first: Int, levels: Int) -> Double {
    if levels == 1 { return costOfOne(first..<weight.count) }
    return (first...weight.count).reduce(.infinity) { least, end in
      min(least, costOfOne(first..<end) + leastCost(from: end, levels: levels - 1))
    }
  }

  private func costOfOne(_ bins: Range<Int>) -> Double {
    let mass = bins.reduce(0) { $0 + weight[$1] }
    guard mass > 0 else { return 0 }
    let mean = bins.reduce(0) { $0 + moment[$1] } / mass
    return bins.reduce(0) { sum, bin in
      sum + weight[bin] * (position(bin) - mean) * (position(bin) - mean)
    }
  }
}
