internal import CNibble

/// A calibrated transform of the keys or the values of one KV head: `coefficient[i] = analysis[i] · (row - mean)`.
///
/// Coefficients have unit variance and are not correlated; they are sorted by how much their errors count in attention.
/// A row is `mean + Σ coefficient[i] · synthesis[i]`, so that
/// - scores need the query's products with ``synthesis`` alone, once for each stretch of pages, and
/// - outputs are sums of ``synthesis`` vectors, once for each query.
///
/// See `RowStatistics.keyTransform()` and `RowStatistics.valueTransform()` for how the vectors are found.
public struct RowTransform: Hashable, Sendable {
  /// Channels of a row, and coefficients.
  public let headDim: Int
  /// What is subtracted from every row: (headDim).
  public let mean: [Float]
  /// The vectors that make coefficients: (headDim, headDim), one after the other.
  public let analysis: [Float]
  /// The vectors that coefficients stand for: (headDim, headDim), the inverse of ``analysis``.
  public let synthesis: [Float]
  /// What a squared error of one counts for each coefficient, descending: (headDim).
  ///
  /// In units of squared scores for keys, of squared outputs for values.
  public let weights: [Float]

  /// Creates a transform.
  ///
  /// - Parameters:
  ///   - headDim: Channels of a row.
  ///   - mean: (headDim).
  ///   - analysis: (headDim, headDim).
  ///   - synthesis: (headDim, headDim).
  ///   - weights: (headDim), descending, not negative.
  /// - Throws: ``CodecError/unsupportedHeadDimension(_:)``, ``CodecError/wrongLength(what:count:expected:)``, or ``CodecError/invalidTransform(reason:)`` for values that are
  ///   not finite or too large, weights that do not descend, and vectors that are not each other's inverses.
  /// - Complexity: O(headDim³).
  public init(
    headDim: Int,
    mean: [Float],
    analysis: [Float],
    synthesis: [Float],
    weights: [Float]
  ) throws(CodecError) {
    guard headDim >= 8, headDim <= 512, headDim % 8 == 0 else {
      throw .unsupportedHeadDimension(headDim)
    }
    let square = headDim * headDim
    for (what, values, count) in [
      ("mean", mean, headDim), ("analysis", analysis, square), ("synthesis", synthesis, square),
      ("weights", weights, headDim),
    ] {
      guard values.count == count else {
        throw .wrongLength(what: what, count: values.count, expected: count)
      }
      if let wrong = values.first(where: { !($0.magnitude <= Self.magnitudeLimit) }) {
        throw .invalidTransform(
          reason: "\(what) holds \(wrong); the limit is ±\(Self.magnitudeLimit)"
        )
      }
    }
    guard weights.allSatisfy({ $0 >= 0 }), zip(weights, weights.dropFirst()).allSatisfy(>=) else {
      throw .invalidTransform(reason: "its weights do not descend to zero or above")
    }
    self.headDim = headDim
    self.mean = mean
    self.analysis = analysis
    self.synthesis = synthesis
    self.weights = weights
    try checkInverse()
  }

  /// Rows times two such vectors must stay within a float.
  static let magnitudeLimit: Float = 1e12

  /// Products of vectors may be off by what rounding does to their lengths.
  private func checkInverse() throws(CodecError) {
    let lengths = { (vectors: [Float]) -> [Float] in
      (0..<headDim).map { dot(vectors, $0, vectors, $0).squareRoot() }
    }
    let (long, other) = (lengths(analysis), lengths(synthesis))
    for row in 0..<headDim {
      for column in 0..<headDim {
        let product = dot(analysis, row, synthesis, column)
        let expected: Float = row == column ? 1 : 0
        guard abs(product - expected) < 0.01 + 1e-4 * long[row] * other[column] else {
          throw .invalidTransform(
            reason: "analysis vector \(row) times synthesis vector \(column) is \(product), "
              + "not \(expected)"
          )
        }
      }
    }
  }

  private func dot(_ a: [Float], _ i: Int, _ b: [Float], _ j: Int) -> Float {
    a.withUnsafeBufferPointer { a in
      b.withUnsafeBufferPointer { b in
        guard let a = a.baseAddress, let b = b.baseAddress else { return 0 }
        return nibble_dot(a + i * headDim, b + j * headDim, headDim)
      }
    }
  }
}

// MARK: - Applying it

extension RowTransform {
  /// Replaces rows (count, headDim), without their mean, by their coefficients; `scratch` has room for a row.
  package func analyse(
    _ rows: UnsafeMutablePointer<Float>,
    count: Int,
    scratch: UnsafeMutablePointer<Float>? = nil
  ) {
    replaceRows(rows, count: count, scratch: scratch) { source, target in
      analysis.withUnsafeBufferPointer {
        nibble_analyse($0.baseAddress, Int32(headDim), Int32(headDim), source, 1, target)
      }
    }
  }

  /// Replaces coefficients (count, headDim) by rows without their mean; `scratch` has room for a row.
  package func synthesize(
    _ rows: UnsafeMutablePointer<Float>,
    count: Int,
    scratch: UnsafeMutablePointer<Float>? = nil
  ) {
    replaceRows(rows, count: count, scratch: scratch) { source, target in
      synthesis.withUnsafeBufferPointer {
        nibble_synthesize($0.baseAddress, Int32(headDim), Int32(headDim), source, target)
      }
    }
  }

  /// The products of queries (count, headDim) with the vectors that coefficients stand for.
  package func project(
    queries: UnsafePointer<Float>,
    count: Int,
    into result: UnsafeMutablePointer<Float>
  ) {
    synthesis.withUnsafeBufferPointer {
      nibble_analyse($0.baseAddress, Int32(headDim), Int32(headDim), queries, count, result)
    }
  }

  /// The metric of errors (headDim, headDim), in the rows' space or behind the Hadamard transform: for keys the second moments of
  /// their queries, `Σ weight[i] · analysis[i] · analysis[i]ᵀ`, with a mean eigenvalue of one.
  package func metric(isRotated: Bool) -> [Float] {
    var vectors = analysis
    if isRotated { nibble_rotate(&vectors, headDim, Int32(headDim)) }
    var result = [Float](repeating: 0, count: headDim * headDim)
    for (index, weight) in weights.enumerated() {
      let vector = Array(vectors[index * headDim..<(index + 1) * headDim])
      for channel in 0..<headDim {
        result.withUnsafeMutableBufferPointer {
          let row = $0.baseAddress.map { $0 + channel * headDim }
          nibble_combine(row, 1, vector, weight * vector[channel], headDim)
        }
      }
    }
    let trace = (0..<headDim).reduce(Float(0)) { $0 + result[$1 * headDim + $1] }
    return result.map { $0 * (Float(headDim) / trace) }
  }

  private func replaceRows(
    _ rows: UnsafeMutablePointer<Float>,
    count: Int,
    scratch: UnsafeMutablePointer<Float>? = nil,
    _ body: (UnsafePointer<Float>, UnsafeMutablePointer<Float>) -> Void
  ) {
    guard let scratch else {
      withUnsafeTemporaryAllocation(of: Float.self, capacity: headDim) {
        guard let scratch = $0.baseAddress else { return }
        replaceRows(rows, count: count, scratch: scratch, body)
      }
      return
    }
    for row in 0..<count {
      body(rows + row * headDim, scratch)
      (rows + row * headDim).update(from: scratch, count: headDim)
    }
  }
}
