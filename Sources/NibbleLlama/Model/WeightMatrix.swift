import NibbleFiles

/// A weight matrix, `[rows, columns]`: float32, or the 16 bits of the file.
struct WeightMatrix: Sendable {
  private enum Storage: Sendable {
    case floats([Float])
    case packed([UInt8], TensorElement)
  }

  let rows: Int
  let columns: Int
  private let storage: Storage

  /// Values that are widened at a time when 16-bit weights stay as they are.
  private static let blockValues = 1 << 18

  init(
    file: SafetensorsFile,
    tensor: SafetensorsFile.Tensor,
    rows: Int,
    columns: Int,
    isWidened: Bool
  ) throws(FileError) {
    precondition(tensor.byteRange.count * 8 == rows * columns * tensor.element.bitCount)
    self.rows = rows
    self.columns = columns
    storage =
      isWidened || tensor.element == .float32
      ? .floats(try file.floats(of: tensor))
      : .packed(try file.values(tensor.byteRange), tensor.element)
  }

  /// Multiplies `[tokens, columns]` by the matrix into `[tokens, rows]`.
  func multiply(
    _ input: [Float],
    tokens: Int,
    into output: inout [Float],
    mode: MatrixProduct.Mode = .replace
  ) {
    precondition(input.count >= tokens * columns && output.count >= tokens * rows)
    input.withUnsafeBufferPointer { input in
      output.withUnsafeMutableBufferPointer { output in
        guard let input = input.baseAddress, let output = output.baseAddress else { return }
        withBlocks { block, weights in
          MatrixProduct.multiply(
            input,
            tokens: tokens,
            inputs: columns,
            by: weights,
            outputs: block.count,
            into: output + block.lowerBound,
            outputStride: rows,
            mode: mode
          )
        }
      }
    }
  }

  /// Writes one row as floats.
  func copyRow(_ row: Int, into output: UnsafeMutableBufferPointer<Float>) {
    precondition((0..<rows).contains(row) && output.count == columns)
    switch storage {
    case .floats(let values):
      for column in 0..<columns { output[column] = values[row * columns + column] }
    case .packed(let bytes, let element):
      WeightConversion.widen(element, bytes, from: row * columns, into: output)
    }
  }

  /// Calls the body with float32 rows, all at once or block by block.
  private func withBlocks(_ body: (Range<Int>, UnsafePointer<Float>) -> Void) {
    switch storage {
    case .floats(let values):
      values.withUnsafeBufferPointer { values in
        if let start = values.baseAddress { body(0..<rows, start) }
      }
    case .packed(let bytes, let element):
      let blockRows = min(rows, max(1, Self.blockValues / columns))
      withUnsafeTemporaryAllocation(of: Float.self, capacity: blockRows * columns) { buffer in
        for first in stride(from: 0, to: rows, by: blockRows) {
          let block = first..<min(first + blockRows, rows)
          let values = UnsafeMutableBufferPointer(rebasing: buffer[..<(block.count * columns)])
          WeightConversion.widen(element, bytes, from: first * columns, into: values)
          if let start = values.baseAddress { body(block, UnsafePointer(start)) }
        }
      }
    }
  }
}

extension SafetensorsFile {
  /// All values of a weight tensor.
  func floats(of tensor: Tensor) throws(FileError) -> [Float] {
    if tensor.element == .float32 { return try values(tensor.byteRange) }
    let bytes: [UInt8] = try values(tensor.byteRange)
    let count = bytes.count * 8 / tensor.element.bitCount
    return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      let target = UnsafeMutableBufferPointer(rebasing: buffer[..<count])
      WeightConversion.widen(tensor.element, bytes, from: 0, into: target)
      initialized = count
    }
  }
}
