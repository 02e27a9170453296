internal import CNibble

/// Sums of the queries, keys and values that one KV head has seen: what its transforms are calibrated from.
///
/// A value: sums of different texts can be merged.
package struct RowStatistics: Sendable {
  /// Channels of a row.
  package let headDim: Int
  private var queries: Moments
  private var keys: Moments
  /// Keys by how much attention they drew.
  private var attendedKeys: Moments
  private var values: Moments

  /// Nothing seen yet.
  package init(headDim: Int) {
    self.headDim = headDim
    queries = Moments(size: headDim)
    keys = Moments(size: headDim)
    attendedKeys = Moments(size: headDim)
    values = Moments(size: headDim)
  }

  /// Token rows seen.
  package var tokenCount: Int { keys.count }
  /// Query rows seen: of all query heads that share the KV head.
  package var queryCount: Int { queries.count }

  /// Adds what another part of the text gave.
  package mutating func merge(_ other: RowStatistics) {
    queries.merge(other.queries)
    keys.merge(other.keys)
    attendedKeys.merge(other.attendedKeys)
    values.merge(other.values)
  }

  package mutating func add(queries rows: UnsafePointer<Float>, count: Int, stride: Int) {
    queries.add(rows, count: count, stride: stride)
  }

  package mutating func add(keys rows: UnsafePointer<Float>, count: Int, stride: Int) {
    keys.add(rows, count: count, stride: stride)
  }

  /// Adds keys again, each by how much an error of it would have counted: `weights` (count), Σ p (1 - p) over queries that gave
  /// the key a softmax weight of p.
  package mutating func add(
    attendedKeys rows: UnsafePointer<Float>,
    weights: [Float],
    stride: Int
  ) {
    attendedKeys.add(rows, count: weights.count, stride: stride, weights: weights)
  }

  package mutating func add(values rows: UnsafePointer<Float>, count: Int, stride: Int) {
    values.add(rows, count: count, stride: stride)
  }
}

// MARK: - Transforms

extension RowStatistics {
  /// The transform of keys, from the second moments of keys and of the queries that meet them.
  ///
  /// With Σq = E[q qᵀ] and Σk the covariance of keys, an error e of a key costs E[(q·e)²] = eᵀ Σq e. So coefficients are the
  /// principal components of Σq^½ (k - mean): Karhunen-Loève with the queries' metric. Their variances are the weights.
  /// Mean and covariance are those of the keys that draw attention, as far as it was seen: the softmax hides errors of all others,
  /// and they lie elsewhere. All keys go along with the same share, for those that will draw it.
  /// Both matrices are drawn towards the identity, the queries' more: other text asks for other directions. Of values less is
  /// taken for granted: their last coefficients hold almost nothing, and what stands in for it would take their bits.
  ///
  /// - Throws: ``CodecError/invalidTransform(reason:)`` if too few rows have been seen.
  package func keyTransform() throws(CodecError) -> RowTransform {
    try check(keys, "keys")
    try check(queries, "queries")
    let metric = queries.secondMoment.shrunk(by: queries.shrinkage(least: 0.1)).eigen()
    let root = SymmetricMatrix.composed(metric) { $0.squareRoot() }
    let inverseRoot = SymmetricMatrix.composed(metric) { 1 / $0.squareRoot() }
    let seen = attendedKeys.blended(with: keys, share: Self.unattendedShare)
    let covariance = seen.covariance.shrunk(by: keys.shrinkage(least: 0.05))
    let eigen = root.conjugating(covariance).eigen()
    return try transform(
      mean: seen.mean,
      eigen: eigen,
      analysis: root.applied(to: eigen.vectors),
      synthesis: inverseRoot.applied(to: eigen.vectors)
    )
  }

  /// The transform of values: their principal components about zero.
  ///
  /// The mean stays in: tokens that draw attention without saying anything have values near zero, and would become long
  /// vectors without it.
  ///
  /// - Throws: ``CodecError/invalidTransform(reason:)`` if too few rows have been seen.
  package func valueTransform() throws(CodecError) -> RowTransform {
    try check(values, "values")
    let eigen = values.secondMoment.shrunk(by: values.shrinkage(least: 0.005)).eigen()
    return try transform(
      mean: Array(repeating: 0, count: headDim),
      eigen: eigen,
      analysis: eigen.vectors,
      synthesis: eigen.vectors
    )
  }

  private static let unattendedShare = 0.5

  private func check(_ moments: Moments, _ what: String) throws(CodecError) {
    // With fewer rows than channels the covariance is noise, however it is shrunk.
    guard moments.count >= 2 * headDim else {
      throw .invalidTransform(
        reason: "\(moments.count) rows of \(what) seen; \(2 * headDim) are needed"
      )
    }
    let variance = moments.covariance.meanEigenvalue
    guard variance > 1e-20, variance < 1e20 else {
      throw .invalidTransform(reason: "the mean variance of \(what) is \(variance)")
    }
  }

  /// Vectors scaled so that coefficients have unit variance.
  private func transform(
    mean: [Double],
    eigen: (values: [Double], vectors: [Double]),
    analysis: [Double],
    synthesis: [Double]
  ) throws(CodecError) -> RowTransform {
    let floor = 1e-8 * (eigen.values.first ?? 1)
    let deviations = eigen.values.map { max($0, floor).squareRoot() }
    return try RowTransform(
      headDim: headDim,
      mean: mean.map(Float.init),
      analysis: analysis.indices.map { Float(analysis[$0] / deviations[$0 / headDim]) },
      synthesis: synthesis.indices.map { Float(synthesis[$0] * deviations[$0 / headDim]) },
      weights: deviations.map { Float($0 * $0) }
    )
  }
}

/// Count, sum and second moment of rows, each of which has a weight.
private struct Moments: Sendable {
  let size: Int
  private(set) var count = 0
  private var weight = 0.0
  /// The first row: sums are of what rows differ from it, so that a large mean costs no digits.
  private var origin: [Double]
  private var sums: [Double]
  /// (size, size); the upper triangle.
  private var squares: [Double]

  /// Squares of rows beyond it would not stay within a float; such rows are left out.
  private static let limit: Float = 1e15

  init(size: Int) {
    self.size = size
    origin = Array(repeating: 0, count: size)
    sums = origin
    squares = Array(repeating: 0, count: size * size)
  }

  mutating func merge(_ other: Moments) {
    guard other.count > 0 else { return }
    guard count > 0 else {
      self = other
      return
    }
    // With d between the origins: Σ (x + d)(x + d)ᵀ = Σ x xᵀ + d Σxᵀ + Σx dᵀ + n d dᵀ.
    let shift = origin.indices.map { other.origin[$0] - origin[$0] }
    let added = other.weight
    for row in 0..<size {
      for column in row..<size {
        squares[row * size + column] +=
          other.squares[row * size + column] + shift[row] * other.sums[column]
          + other.sums[row] * shift[column] + added * shift[row] * shift[column]
      }
      sums[row] += other.sums[row] + added * shift[row]
    }
    count += other.count
    weight += other.weight
  }

  /// Moments of which `share` comes from `other`: all, if these are empty.
  func blended(with other: Moments, share: Double) -> Moments {
    guard weight > 0, other.weight > 0 else { return other }
    var result = self
    result.scale(by: (1 - share) / weight)
    var rest = other
    rest.scale(by: share / other.weight)
    result.merge(rest)
    return result
  }

  private mutating func scale(by factor: Double) {
    weight *= factor
    for index in sums.indices { sums[index] *= factor }
    for index in squares.indices { squares[index] *= factor }
  }

  /// Adds rows `stride` values apart, with a weight of one if none are given.
  ///
  /// Sums of up to 256 rows are kept in single precision.
  mutating func add(
    _ rows: UnsafePointer<Float>,
    count: Int,
    stride: Int,
    weights: [Float]? = nil
  ) {
    for first in Swift.stride(from: 0, to: count, by: 256) {
      let range = first..<min(first + 256, count)
      addChunk(rows, range, stride: stride, weights: weights)
    }
  }

  private mutating func addChunk(
    _ rows: UnsafePointer<Float>,
    _ range: Range<Int>,
    stride: Int,
    weights: [Float]?
  ) {
    var sum = [Float](repeating: 0, count: size)
    var square = [Float](repeating: 0, count: size * size)
    var difference = sum
    for index in range {
      let row = rows + index * stride
      let share = weights?[index] ?? 1
      guard share > 0, nibble_first_outside(row, size, Self.limit) < 0 else { continue }
      if count == 0 { origin = (0..<size).map { Double(row[$0]) } }
      count += 1
      weight += Double(share)
      for channel in 0..<size {
        difference[channel] = row[channel] - Float(origin[channel])
        sum[channel] += share * difference[channel]
      }
      addSquare(of: difference, share: share, to: &square)
    }
    for index in sum.indices { sums[index] += Double(sum[index]) }
    for index in square.indices { squares[index] += Double(square[index]) }
  }

  private func addSquare(of row: [Float], share: Float, to square: inout [Float]) {
    row.withUnsafeBufferPointer { row in
      square.withUnsafeMutableBufferPointer { square in
        guard let row = row.baseAddress, let square = square.baseAddress else { return }
        for channel in 0..<size {
          let start = square + channel * size + channel
          nibble_combine(start, 1, row + channel, share * row[channel], size - channel)
        }
      }
    }
  }

  var mean: [Double] { origin.indices.map { origin[$0] + sums[$0] / weight } }

  var secondMoment: SymmetricMatrix {
    var result = covariance
    let mean = mean
    for row in 0..<size {
      for column in 0..<size { result[row, column] += mean[row] * mean[column] }
    }
    return result
  }

  var covariance: SymmetricMatrix {
    var result = SymmetricMatrix(size: size, values: Array(repeating: 0, count: size * size))
    for row in 0..<size {
      for column in row..<size {
        let product = sums[row] / weight * (sums[column] / weight)
        let value = squares[row * size + column] / weight - product
        result[row, column] = value
        result[column, row] = value
      }
    }
    return result
  }

  /// How far the matrix is drawn towards the identity: further while few rows have been seen.
  func shrinkage(least: Double) -> Double {
    min(0.5, least + Double(size) / Double(size + count))
  }
}
