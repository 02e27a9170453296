/// A symmetric matrix in double precision, with what calibration asks of one.
struct SymmetricMatrix {
  let size: Int
  /// (size, size).
  var values: [Double]

  subscript(row: Int, column: Int) -> Double {
    get { values[row * size + column] }
    set { values[row * size + column] = newValue }
  }

  /// The mean of the eigenvalues.
  var meanEigenvalue: Double {
    (0..<size).reduce(0) { $0 + self[$1, $1] } / Double(size)
  }

  /// Drawn towards a multiple of the identity with the same trace, which bounds the condition number (Ledoit and Wolf 2004).
  func shrunk(by share: Double) -> SymmetricMatrix {
    let level = meanEigenvalue
    var result = self
    for index in values.indices { result.values[index] *= 1 - share }
    for index in 0..<size { result[index, index] += share * level }
    return result
  }

  /// Eigenvalues, descending, and their vectors, one after the other.
  ///
  /// Cyclic Jacobi rotations (Golub and Van Loan, "Matrix Computations", 8.5). Each vector's largest element is positive, so that the
  /// same matrix gives the same vectors.
  ///
  /// - Complexity: O(size³) for each of a handful of sweeps.
  func eigen() -> (values: [Double], vectors: [Double]) {
    var work = values
    var vectors = [Double](repeating: 0, count: size * size)
    for index in 0..<size { vectors[index * size + index] = 1 }
    work.withUnsafeMutableBufferPointer { work in
      vectors.withUnsafeMutableBufferPointer { vectors in
        for _ in 0..<Self.mostSweeps where !sweep(work, vectors) { break }
      }
    }
    let order = (0..<size).sorted { work[$0 * size + $0] > work[$1 * size + $1] }
    let sorted = order.flatMap { index -> [Double] in
      let vector = vectors[index * size..<(index + 1) * size]
      let largest = vector.max { abs($0) < abs($1) } ?? 0
      return largest < 0 ? vector.map { -$0 } : Array(vector)
    }
    return (order.map { work[$0 * size + $0] }, sorted)
  }

  private static let mostSweeps = 30

  /// Rotates every pair once; false if no element off the diagonal was large enough to matter.
  private func sweep(
    _ a: UnsafeMutableBufferPointer<Double>,
    _ vectors: UnsafeMutableBufferPointer<Double>
  ) -> Bool {
    let trace = (0..<size).reduce(0) { $0 + abs(a[$1 * size + $1]) }
    var isChanged = false
    for p in 0..<size {
      for q in p + 1..<max(size, p + 1) {
        let off = a[p * size + q]
        guard abs(off) > 1e-15 * trace else { continue }
        isChanged = true
        let theta = (a[q * size + q] - a[p * size + p]) / (2 * off)
        let t = (theta < 0 ? -1 : 1) / (abs(theta) + (theta * theta + 1).squareRoot())
        let c = 1 / (t * t + 1).squareRoot()
        let s = t * c
        rotate(a, p * size, q * size, step: 1, c, s)
        rotate(a, p, q, step: size, c, s)
        rotate(vectors, p * size, q * size, step: 1, c, s)
      }
    }
    return isChanged
  }

  /// Rotates two rows (`step` 1, beginning `size` apart) or two columns (`step` `size`, beginning side by side).
  private func rotate(
    _ m: UnsafeMutableBufferPointer<Double>,
    _ p: Int,
    _ q: Int,
    step: Int,
    _ c: Double,
    _ s: Double
  ) {
    for k in stride(from: 0, to: size * step, by: step) {
      let (x, y) = (m[p + k], m[q + k])
      m[p + k] = c * x - s * y
      m[q + k] = s * x + c * y
    }
  }

  /// `vectors · diag(function(eigenvalue)) · vectorsᵀ` of an eigendecomposition.
  static func composed(
    _ eigen: (values: [Double], vectors: [Double]),
    _ function: (Double) -> Double
  ) -> SymmetricMatrix {
    let size = eigen.values.count
    var result = [Double](repeating: 0, count: size * size)
    for (index, value) in eigen.values.enumerated() {
      let factor = function(value)
      let vector = Array(eigen.vectors[index * size..<(index + 1) * size])
      for row in 0..<size {
        let scaled = factor * vector[row]
        for column in 0..<size { result[row * size + column] += scaled * vector[column] }
      }
    }
    return SymmetricMatrix(size: size, values: result)
  }

  /// `self · other · self`.
  func conjugating(_ other: SymmetricMatrix) -> SymmetricMatrix {
    let inner = product(other.values)
    var outer = SymmetricMatrix(size: size, values: product(transposed(inner)))
    for row in 0..<size {
      for column in 0..<row {
        let middle = (outer[row, column] + outer[column, row]) / 2
        outer[row, column] = middle
        outer[column, row] = middle
      }
    }
    return outer
  }

  /// The product with each of the vectors that lie one after the other: `vector · self`.
  func applied(to vectors: [Double]) -> [Double] {
    // self is symmetric: rows serve as columns.
    transposed(product(transposed(vectors)))
  }

  /// `self · matrix`.
  private func product(_ matrix: [Double]) -> [Double] {
    var result = [Double](repeating: 0, count: size * size)
    result.withUnsafeMutableBufferPointer { result in
      matrix.withUnsafeBufferPointer { matrix in
        for row in 0..<size {
          for k in 0..<size {
            let factor = values[row * size + k]
            for column in 0..<size {
              result[row * size + column] += factor * matrix[k * size + column]
            }
          }
        }
      }
    }
    return result
  }

  private func transposed(_ matrix: [Double]) -> [Double] {
    var result = matrix
    for row in 0..<size {
      for column in 0..<size { result[column * size + row] = matrix[row * size + column] }
    }
    return result
  }
}
