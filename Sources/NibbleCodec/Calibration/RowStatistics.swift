internal import CNibble

/// Sums of the queries, keys and values that one KV head has seen: what its transforms are calibrated from.
///
/// A value: sums of different texts can be merged.
public struct RowStatistics: Sendable {
  /// Channels of a row.
  public let headDim: Int
  private var queries: Moments
  private var keys: Moments
  private var values: Moments

  /// Nothing seen yet.
  public init(headDim: Int) {
    self.headDim = headDim
    queries = Moments(size: headDim)
    keys = Moments(size: headDim)
    values = Moments(size: headDim)
  }

  /// Token rows seen.
  public var tokenCount: Int { keys.count }
  /// Query rows seen: of all query heads that share the KV head.
  public var queryCount: Int { queries.count }

  /// Adds what another part of the text gave.
  public mutating func merge(_ other: RowStatistics) {
    queries.merge(other.queries)
    keys.merge(other.keys)
    values.merge(other.values)
  }

  package mutating func add(queries rows: UnsafePointer<Float>, count: Int, stride: Int) {
    queries.add(rows, count: count, stride: stride)
  }

  package mutating func add(keys rows: UnsafePointer<Float>, count: Int, stride: Int) {
    keys.add(rows, count: count, stride: stride)
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
  /// Both matrices are drawn towards the identity, the queries' more: other text asks for other directions.
  ///
  /// - Throws: ``CodecError/invalidTransform(reason:)`` if too few rows have been seen.
  public func keyTransform() throws(CodecError) -> RowTransform {
    try check(keys, "keys")
    try check(queries, "queries")
    let metric = queries.secondMoment.shrunk(by: queries.shrinkage(least: 0.1)).eigen()
    let root = SymmetricMatrix.composed(metric) { $0.squareRoot() }
    let inverseRoot = SymmetricMatrix.composed(metric) { 1 / $0.squareRoot() }
    let covariance = keys.covariance.shrunk(by: keys.shrinkage(least: 0.05))
    let eigen = root.conjugating(covariance).eigen()
    return try transform(
      mean: keys.mean,
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
  public func valueTransform() throws(CodecError) -> RowTransform {
    try check(values, "values")
    let eigen = values.secondMoment.shrunk(by: values.shrinkage(least: 0.05)).eigen()
    return try transform(
      mean: Array(repeating: 0, count: headDim),
      eigen: eigen,
      analysis: eigen.vectors,
      synthesis: eigen.vectors
    )
  }

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

/// Count, sum and second moment of rows.
private struct Moments: Sendable {
  let size: Int
  private(set) var count = 0
  private var sums: [Double]
  /// (size, size); the upper triangle.
  private var squares: [Double]

  init(size: Int) {
    self.size = size
    sums = Array(repeating: 0, count: size)
    squares = Array(repeating: 0, count: size * size)
  }

  mutating func merge(_ other: Moments) {
    count += other.count
    for index in sums.indices { sums[index] += other.sums[index] }
    for index in squares.indices { squares[index] += other.squares[index] }
  }

  /// Adds rows `stride` values apart.
  ///
  /// Sums of up to 256 rows are kept in single precision.
  mutating func add(_ rows: UnsafePointer<Float>, count: Int, stride: Int) {
    for first in Swift.stride(from: 0, to: count, by: 256) {
      addChunk(rows + first * stride, count: min(256, count - first), stride: stride)
    }
    self.count += count
  }

  private mutating func addChunk(_ rows: UnsafePointer<Float>, count: Int, stride: Int) {
    var sum = [Float](repeating: 0, count: size)
    var square = [Float](repeating: 0, count: size * size)
    for index in 0..<count {
      let row = rows + index * stride
      for channel in 0..<size {
        sum[channel] += row[channel]
        square.withUnsafeMutableBufferPointer { square in
          guard let base = square.baseAddress else { return }
          let start = channel * size + channel
          nibble_combine(base + start, 1, row + channel, row[channel], size - channel)
        }
      }
    }
    for index in sum.indices { sums[index] += Double(sum[index]) }
    for index in square.indices { squares[index] += Double(square[index]) }
  }

  var mean: [Double] { sums.map { $0 / Double(count) } }

  var secondMoment: SymmetricMatrix { matrix(minus: Array(repeating: 0, count: size)) }

  var covariance: SymmetricMatrix { matrix(minus: mean) }

  private func matrix(minus mean: [Double]) -> SymmetricMatrix {
    var result = SymmetricMatrix(size: size, values: Array(repeating: 0, count: size * size))
    for row in 0..<size {
      for column in row..<size {
        let value = squares[row * size + column] / Double(count) - mean[row] * mean[column]
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
