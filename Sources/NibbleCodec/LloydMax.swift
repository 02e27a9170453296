/// The Lloyd-Max tables of the standard normal distribution: the centroids that minimise the squared error.
///
/// Lloyd's conditions solved to thirteen digits on the exact density; Max, "Quantizing for minimum distortion", 1960.
enum LloydMax {
  /// The centroids above zero, ascending; those below mirror them.
  static func positiveCentroids(bits: Int) -> [Double] {
    switch bits {
    case 2: [0.452780, 1.510418]
    case 3: [0.245094, 0.756005, 1.343909, 2.151946]
    default: [0.128395, 0.388048, 0.656759, 0.942340, 1.256231, 1.618046, 2.069017, 2.732590]
    }
  }

  /// All centroids as signed bytes, ascending, and the value of one unit.
  ///
  /// The unit is the one, among those that reach at least half of the byte's range, that leaves the least rounding error.
  static func table(bits: Int) -> (entries: [Int8], unit: Float) {
    let positive = positiveCentroids(bits: bits)
    let largest = positive[positive.count - 1]
    var best = (error: Double.infinity, unit: largest / 127)
    for top in 64...127 {
      let unit = largest / Double(top)
      let error = positive.reduce(0) { sum, x in
        let rounded = (x / unit).rounded() * unit
        return sum + (x - rounded) * (x - rounded)
      }
      if error < best.error { best = (error, unit) }
    }
    let upper = positive.map { Int8(($0 / best.unit).rounded()) }
    return (upper.reversed().map { -$0 } + upper, Float(best.unit))
  }
}
