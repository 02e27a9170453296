/// Pseudo-random bases: eight values are the product of an 8 × 3 matrix, which a linear feedback shift register makes from a
/// seed of 16 bits, and three coefficients of 4 bits with a common exponent.
///
/// Shafipour et al., *SeedLM* (2024), arXiv:2410.10714. Encoding tries all 65,535 seeds, which takes about a millisecond for
/// eight values: a codec for comparison, not for use. Specs/codecs.md, seeded.
struct SeededCodec: CustomCodec {
  static let blockLength = 8
  private static let blockBytes = 4

  var name: String { "seeded" }

  private func blocks(_ headDim: Int) -> Int { headDim / Self.blockLength }

  /// Blocks (seed, exponent, coefficients) row by row, then the rows' exponents.
  func byteCount(tokens: Int, headDim: Int) -> Int {
    tokens * blocks(headDim) * Self.blockBytes + tokens
  }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) {
    let exponentStart = tokens * blocks(headDim) * Self.blockBytes
    for token in 0..<tokens {
      let found = (0..<blocks(headDim)).map { block in
        SeedSearch.shared.best(
          for: (0..<Self.blockLength).map {
            rows[token * headDim + block * Self.blockLength + $0]
          }
        )
      }
      let top = found.map(\.exponent).max() ?? 0
      bytes[exponentStart + token] = UInt8(top + 160)
      for (block, choice) in found.enumerated() {
        put(choice, below: top, at: (token * blocks(headDim) + block) * Self.blockBytes, in: &bytes)
      }
    }
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {
    let exponentStart = tokens * blocks(headDim) * Self.blockBytes
    for token in 0..<tokens {
      let top = Int(bytes[exponentStart + token]) - 160
      for block in 0..<blocks(headDim) {
        let start = (token * blocks(headDim) + block) * Self.blockBytes
        let seed = UInt16(bytes[start]) | UInt16(bytes[start + 1]) << 8
        guard seed != 0 else { throw SeedError(token: token, block: block) }
        let coefficients = [bytes[start + 2] >> 4, bytes[start + 3] & 15, bytes[start + 3] >> 4]
          .map { Double(Int8(bitPattern: $0 << 4) >> 4) }
        let step = power(top - Int(bytes[start + 2] & 15))
        let basis = ShiftRegister.basis(of: seed)
        for offset in 0..<Self.blockLength {
          var sum = 0.0
          for p in 0..<3 { sum += basis[offset * 3 + p] * coefficients[p] }
          rows[token * headDim + block * Self.blockLength + offset] = Float(sum * step)
        }
      }
    }
  }

  /// Blocks of which nothing is left fifteen powers of two below the row's largest are zero.
  private func put(
    _ choice: SeedSearch.Choice,
    below top: Int,
    at start: Int,
    in bytes: inout MutableSpan<UInt8>
  ) {
    let isKept = top - choice.exponent <= 15
    let coefficients = choice.coefficients.map { isKept ? UInt8(bitPattern: Int8($0)) & 15 : 0 }
    bytes[start] = UInt8(truncatingIfNeeded: choice.seed)
    bytes[start + 1] = UInt8(choice.seed >> 8)
    bytes[start + 2] = UInt8(min(top - choice.exponent, 15)) | coefficients[0] << 4
    bytes[start + 3] = coefficients[1] | coefficients[2] << 4
  }
}

private struct SeedError: Error, CustomStringConvertible {
  let token: Int
  let block: Int
  var description: String { "token \(token), block \(block): 0 is no seed" }
}

private func power(_ exponent: Int) -> Double {
  Double(sign: .plus, exponent: exponent, significand: 1)
}

/// The register with the polynomial x¹⁶ + x¹⁵ + x¹³ + x⁴ + 1.
private enum ShiftRegister {
  static func next(_ state: UInt16) -> UInt16 {
    let bit = (state ^ state >> 1 ^ state >> 3 ^ state >> 12) & 1
    return state >> 1 | bit << 15
  }

  /// Twenty-four states from the seed on, as numbers from -1 to 1, in the order of the values.
  static func basis(of seed: UInt16) -> [Double] {
    var state = seed
    return (0..<24).map { _ in
      defer { state = next(state) }
      return (Double(state) - 32768) / 32768
    }
  }
}

/// All bases, orthonormal ones to find candidates fast, and the search.
private struct SeedSearch: Sendable {
  static let shared = SeedSearch()

  struct Choice {
    var seed: UInt16 = 1
    var exponent = SeedSearch.lowestExponent
    var coefficients = [0, 0, 0]
  }

  /// Powers of two that coefficients may have; a row's is one byte.
  static let lowestExponent = -160
  private static let highestExponent = 95
  private static let seeds = 65_535
  private typealias Lanes = SIMD16<Float>

  /// Orthonormal bases of sixteen seeds at a time: [seeds / 16][3 · 8].
  private let directions: [Lanes]

  private init() {
    var directions = [Lanes](repeating: .zero, count: 65_536 / 16 * 24)
    for seed in 1...Self.seeds {
      for (index, x) in Self.orthonormal(ShiftRegister.basis(of: UInt16(seed))).enumerated() {
        directions[seed / 16 * 24 + index][seed % 16] = Float(x)
      }
    }
    self.directions = directions
  }

  /// The seed, exponent and coefficients of least squared error; of equals, the smallest seed.
  func best(for values: [Float]) -> Choice {
    var choice = Choice()
    let largest = values.reduce(0) { max($0, $1.magnitude) }
    guard largest > 0 else { return choice }
    // Brought near 1, so that squares neither overflow nor vanish.
    let shift = Int(largest.exponent)
    let x = values.map { Double($0) * power(-shift) }
    let lanes = x.map { Lanes(repeating: Float($0)) }
    let square = x.reduce(0) { $0 + $1 * $1 }
    var least = Double.infinity
    for chunk in 0..<directions.count / 24 {
      // No coefficients leave less than what lies outside the basis.
      let outside = Float(square) - captured(by: chunk, of: lanes)
      let worst = Float(min(least, 1e30)) + 1e-5 * Float(square)
      let promising = outside .<= Lanes(repeating: worst)
      guard any(promising) else { continue }
      for lane in 0..<16 where promising[lane] && chunk * 16 + lane > 0 {
        let seed = UInt16(chunk * 16 + lane)
        guard let fit = Self.fit(x, seed: seed, shift: shift), fit.error < least else { continue }
        least = fit.error
        choice = fit.choice
      }
    }
    return choice
  }

  private func captured(by chunk: Int, of x: [Lanes]) -> Lanes {
    var sum = Lanes.zero
    for p in 0..<3 {
      var along = Lanes.zero
      for offset in 0..<8 { along += directions[chunk * 24 + p * 8 + offset] * x[offset] }
      sum += along * along
    }
    return sum
  }

  /// Coefficients by least squares, rounded, and the squared error that they leave.
  private static func fit(
    _ x: [Double],
    seed: UInt16,
    shift: Int
  ) -> (choice: Choice, error: Double)? {
    let basis = ShiftRegister.basis(of: seed)
    guard let solution = solve(basis, x) else { return nil }
    let largest = max(solution[0].magnitude, max(solution[1].magnitude, solution[2].magnitude))
    guard largest > 0 else { return nil }
    // The smallest power of two that brings all coefficients within ±7.5.
    var exponent = Int((largest / 7.5).exponent)
    if power(exponent) * 7.5 < largest { exponent += 1 }
    exponent = max(lowestExponent - shift, min(highestExponent - shift, exponent))
    let step = power(exponent)
    let rounded = solution.map { max(-8, min(7, ($0 / step).rounded(.toNearestOrEven))) }
    var error = 0.0
    for offset in 0..<8 {
      var sum = 0.0
      for p in 0..<3 { sum += basis[offset * 3 + p] * rounded[p] }
      let difference = x[offset] - sum * step
      error += difference * difference
    }
    return (
      Choice(seed: seed, exponent: exponent + shift, coefficients: rounded.map { Int($0) }), error
    )
  }

  /// The normal equations by Cramer's rule; nil if the basis is nearly flat.
  private static func solve(_ u: [Double], _ x: [Double]) -> [Double]? {
    var gram = [Double](repeating: 0, count: 6)  // 00, 01, 02, 11, 12, 22
    var right = [Double](repeating: 0, count: 3)
    for offset in 0..<8 {
      let a = u[offset * 3]
      let b = u[offset * 3 + 1]
      let c = u[offset * 3 + 2]
      gram[0] += a * a
      gram[1] += a * b
      gram[2] += a * c
      gram[3] += b * b
      gram[4] += b * c
      gram[5] += c * c
      right[0] += a * x[offset]
      right[1] += b * x[offset]
      right[2] += c * x[offset]
    }
    let m0 = gram[3] * gram[5] - gram[4] * gram[4]
    let m1 = gram[2] * gram[4] - gram[1] * gram[5]
    let m2 = gram[1] * gram[4] - gram[2] * gram[3]
    let determinant = gram[0] * m0 + gram[1] * m1 + gram[2] * m2
    guard determinant > 1e-6 else { return nil }
    let m3 = gram[0] * gram[5] - gram[2] * gram[2]
    let m4 = gram[1] * gram[2] - gram[0] * gram[4]
    let m5 = gram[0] * gram[3] - gram[1] * gram[1]
    return [
      (m0 * right[0] + m1 * right[1] + m2 * right[2]) / determinant,
      (m1 * right[0] + m3 * right[1] + m4 * right[2]) / determinant,
      (m2 * right[0] + m4 * right[1] + m5 * right[2]) / determinant,
    ]
  }

  /// Gram-Schmidt over the three columns: [3][8].
  private static func orthonormal(_ u: [Double]) -> [Double] {
    var result: [Double] = []
    for p in 0..<3 {
      var column = (0..<8).map { u[$0 * 3 + p] }
      for before in 0..<p {
        let other = result[before * 8..<before * 8 + 8]
        let along = zip(column, other).reduce(0) { $0 + $1.0 * $1.1 }
        column = zip(column, other).map { $0 - along * $1 }
      }
      let length = column.reduce(0) { $0 + $1 * $1 }.squareRoot()
      result += column.map { $0 / max(length, 1e-30) }
    }
    return result
  }
}
