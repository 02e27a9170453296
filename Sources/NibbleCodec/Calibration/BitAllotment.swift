/// Bits for stretches of coefficients: reverse water-filling over the rates that a code has.
///
/// Among all allotments of the same average it takes the one that leaves the least weighted squared error, by dynamic programming;
/// with rates of every size that is the reverse water-filling of Cover and Thomas, "Elements of Information Theory", 10.3.3.
struct BitAllotment {
  /// Neighbouring coefficients with the same bits; those that get none have no part.
  struct Part: Hashable {
    var channels: Int
    var bits: Int
  }

  /// The squared error that a code leaves of a value of unit variance, by its bits; eight are evenly spaced levels.
  static func distortions(of code: CodecDescription.Code) -> [Int: Double] {
    let even = Double(evenUnit * evenUnit) / 12
    return switch code {
    case .trellis: [0: 1, 1: 0.282, 2: 0.0748, 3: 0.0204, 4: 0.0056, 8: even]
    default: [0: 1, 2: 0.1163, 3: 0.0342, 4: 0.0094, 8: even]
    }
  }

  /// The spacing of eight-bit levels: they reach eight deviations, as far as values with heavy tails go.
  static let evenUnit: Float = 8 / 127

  /// - Parameters:
  ///   - bits: The average over all coefficients.
  ///   - weights: What an error of each coefficient counts, descending.
  ///   - step: Coefficients of the smallest stretch: a multiple of 16.
  ///   - distortions: The rates to choose from; see ``distortions(of:)``.
  /// - Returns: Parts with ever fewer bits. All but the last are multiples of `step`.
  /// - Complexity: O(stretches · rates² · `bits` · `weights.count`).
  static func parts(
    bits: Int,
    weights: [Float],
    step: Int,
    distortions: [Int: Double]
  ) -> [Part] {
    var search = Search(budget: bits * weights.count / unit, distortions: distortions)
    var start = 0
    let lengths = segmentLengths(of: weights.count, step: step)
    for length in lengths {
      let weight = weights[start..<start + length].reduce(0) { $0 + Double($1) }
      search.add(length: length, weight: weight)
      start += length
    }
    return joined(zip(lengths, search.best()).map { Part(channels: $0, bits: $1) })
  }

  /// What all lengths are multiples of; budgets count bits of as many coefficients.
  private static let unit = 8

  /// Stretches of `step`; the last takes what is left over.
  private static func segmentLengths(of count: Int, step: Int) -> [Int] {
    let segments = max(1, count / step)
    var lengths = Array(repeating: step, count: segments)
    lengths[segments - 1] = count - (segments - 1) * step
    return lengths
  }

  private static func joined(_ parts: [Part]) -> [Part] {
    var result: [Part] = []
    for part in parts where part.bits > 0 {
      if result.last?.bits == part.bits {
        result[result.count - 1].channels += part.channels
      } else {
        result.append(part)
      }
    }
    return result
  }

  /// The least error of the stretches so far, by the rate of the last one and by what was spent.
  private struct Search {
    let budget: Int
    /// Descending, like the rates of the stretches.
    let rates: [(bits: Int, distortion: Double)]
    private var least: [[Double]]
    private var lengths: [Int] = []
    /// For each stretch: the rate of the one before it.
    private var before: [[[Int]]] = []

    init(budget: Int, distortions: [Int: Double]) {
      self.budget = budget
      rates = distortions.sorted { $0.key > $1.key }.map { (bits: $0.key, distortion: $0.value) }
      least = Array(repeating: Array(repeating: .infinity, count: budget + 1), count: rates.count)
      // As if a stretch of the most bits, which cost nothing, went before.
      least[0][0] = 0
    }

    mutating func add(length: Int, weight: Double) {
      let none = Array(repeating: Double.infinity, count: budget + 1)
      var next = Array(repeating: none, count: rates.count)
      var from = Array(repeating: Array(repeating: 0, count: budget + 1), count: rates.count)
      for last in rates.indices {
        for (spent, error) in least[last].enumerated() where error < .infinity {
          for rate in last..<rates.count {
            let place = spent + rates[rate].bits * length / BitAllotment.unit
            let total = error + weight * rates[rate].distortion
            guard place <= budget, total < next[rate][place] else { continue }
            next[rate][place] = total
            from[rate][place] = last
          }
        }
      }
      least = next
      lengths.append(length)
      before.append(from)
    }

    /// The bits of each stretch.
    func best() -> [Int] {
      var rate = 0
      var place = 0
      for candidate in rates.indices {
        for (spent, error) in least[candidate].enumerated() where error < least[rate][place] {
          (rate, place) = (candidate, spent)
        }
      }
      var chosen: [Int] = []
      for (length, from) in zip(lengths, before).reversed() {
        chosen.append(rates[rate].bits)
        let last = from[rate][place]
        place -= rates[rate].bits * length / BitAllotment.unit
        rate = last
      }
      return chosen.reversed()
    }
  }
}
