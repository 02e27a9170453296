import Foundation

/// The parts of a layer that are not matrix products, over rows of floats.
enum RowOperations {
  /// Root-mean-square norm of each row of `weights.count` values, times the weights.
  static func normalize(
    _ input: [Float],
    rows: Int,
    weights: [Float],
    epsilon: Float,
    into output: inout [Float]
  ) {
    let width = weights.count
    precondition(input.count >= rows * width && output.count >= rows * width)
    input.withUnsafeBufferPointer { input in
      weights.withUnsafeBufferPointer { weights in
        output.withUnsafeMutableBufferPointer { output in
          for row in 0..<rows {
            normalizeRow(
              UnsafeBufferPointer(rebasing: input[row * width..<(row + 1) * width]),
              weights: weights,
              epsilon: epsilon,
              into: UnsafeMutableBufferPointer(rebasing: output[row * width..<(row + 1) * width])
            )
          }
        }
      }
    }
  }

  /// The same for each head's row, in place.
  static func normalize(
    _ values: inout [Float],
    rows: Int,
    weights: [Float],
    epsilon: Float
  ) {
    let width = weights.count
    precondition(values.count >= rows * width)
    weights.withUnsafeBufferPointer { weights in
      values.withUnsafeMutableBufferPointer { values in
        for row in 0..<rows {
          let slice = UnsafeMutableBufferPointer(rebasing: values[row * width..<(row + 1) * width])
          normalizeRow(UnsafeBufferPointer(slice), weights: weights, epsilon: epsilon, into: slice)
        }
      }
    }
  }

  /// `gate = silu(gate) * up`.
  static func gate(_ gate: inout [Float], with up: [Float], count: Int) {
    precondition(gate.count >= count && up.count >= count)
    gate.withUnsafeMutableBufferPointer { gate in
      up.withUnsafeBufferPointer { up in
        for index in 0..<count {
          let value = gate[index]
          gate[index] = value / (1 + exp(-value)) * up[index]
        }
      }
    }
  }

  /// Adds a bias to each row of `bias.count` values.
  static func add(_ bias: [Float], to output: inout [Float], rows: Int) {
    let width = bias.count
    precondition(output.count >= rows * width)
    bias.withUnsafeBufferPointer { bias in
      output.withUnsafeMutableBufferPointer { output in
        for row in 0..<rows {
          for index in 0..<width { output[row * width + index] += bias[index] }
        }
      }
    }
  }

  /// The output may be the input.
  private static func normalizeRow(
    _ input: UnsafeBufferPointer<Float>,
    weights: UnsafeBufferPointer<Float>,
    epsilon: Float,
    into output: UnsafeMutableBufferPointer<Float>
  ) {
    // Eight sums: one alone would wait for each addition.
    var sums = SIMD8<Float>()
    let whole = input.count & ~7
    for index in stride(from: 0, to: whole, by: 8) {
      let values = UnsafeRawPointer(input.baseAddress.unsafelyUnwrapped + index)
        .loadUnaligned(as: SIMD8<Float>.self)
      sums += values * values
    }
    var sum = sums.sum()
    for index in whole..<input.count { sum += input[index] * input[index] }
    let scale = 1 / (sum / Float(input.count) + epsilon).squareRoot()
    for index in 0..<input.count { output[index] = input[index] * scale * weights[index] }
  }
}
