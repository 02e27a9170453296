import CNibble
import Testing

/// The signed Hadamard transform and its Hartley factor.
@Suite struct RotationTests {
  static let dimensions = Array(stride(from: 8, through: 512, by: 8))

  @Test(arguments: dimensions)
  func keepsNormsAndComesBack(headDim: Int) {
    let rows = standardNormal(5 * headDim, seed: UInt64(headDim))
    var turned = rows
    nibble_rotate(&turned, 5, Int32(headDim))
    for row in 0..<5 {
      let range = row * headDim..<(row + 1) * headDim
      #expect(abs(norm(turned[range]) / norm(rows[range]) - 1) < 1e-5)
    }
    #expect(distance(turned, rows) > 0.5 * norm(rows[...]))
    nibble_rotate_back(&turned, 5, Int32(headDim))
    #expect(distance(turned, rows) < 1e-5 * norm(rows[...]))
  }

  /// The images of the unit vectors are orthonormal.
  @Test(arguments: [8, 24, 40, 64, 72, 96, 120, 128])
  func isOrthonormal(headDim: Int) {
    var images = [Float](repeating: 0, count: headDim * headDim)
    for channel in 0..<headDim { images[channel * headDim + channel] = 1 }
    nibble_rotate(&images, headDim, Int32(headDim))
    for a in 0..<headDim {
      for b in 0...a {
        let dot = (0..<headDim).reduce(0.0) {
          $0 + Double(images[a * headDim + $1]) * Double(images[b * headDim + $1])
        }
        if abs(dot - (a == b ? 1 : 0)) > 1e-5 { Issue.record("\(a) · \(b) = \(dot)") }
      }
    }
  }

  /// An outlier is spread over all channels: the kurtosis of a unit vector is its dimension.
  @Test(arguments: dimensions)
  func spreadsOutliers(headDim: Int) {
    for channel in [0, headDim / 3, headDim - 1] {
      var row = [Float](repeating: 0, count: headDim)
      row[channel] = 1
      nibble_rotate(&row, 1, Int32(headDim))
      let squares = row.map { Double($0) * Double($0) }
      let kurtosis = squares.reduce(0) { $0 + $1 * $1 } * Double(headDim)
      #expect(kurtosis < 2)
    }
  }

  private func norm(_ values: ArraySlice<Float>) -> Double {
    values.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
  }

  private func distance(_ a: [Float], _ b: [Float]) -> Double {
    norm(zip(a, b).map { $0 - $1 }[...])
  }
}
