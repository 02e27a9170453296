import NibbleFiles

/// A weight matrix, `[rows, columns]`: float32 in memory or in the map, or 16 bits in the map.
struct WeightMatrix: Sendable {
  private enum Storage: Sendable {
    /// Widened when the model was loaded.
    case floats([Float])
    /// In the file; float32 there only if it is aligned.
    case mapped(SafetensorsFile, SafetensorsFile.Tensor)
  }

  let rows: Int
  let columns: Int
  private let storage: Storage

  /// Values that are widened at a time when 16-bit weights stay in the map.
  private static let blockValues = 1 << 18

  init(
    file: SafetensorsFile,
    tensor: SafetensorsFile.Tensor,
    rows: Int,
    columns: Int,
    isWidened: Bool
  ) {
    precondition(tensor.byteRange.count * 8 == rows * columns * tensor.element.bitCount)
    self.rows = rows
    self.columns = columns
    let isAligned = tensor.byteRange.lowerBound % MemoryLayout<Float>.alignment == 0
    let isDirect = tensor.element == .float32 && isAligned
    storage =
      isDirect || (tensor.element != .float32 && !isWidened)
      ? .mapped(file, tensor) : .floats(file.floats(of: tensor))
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
    case .mapped(let file, let tensor):
      file.widen(tensor, from: row * columns, into: output)
    }
  }

  /// Calls the body with float32 rows, all at once or block by block.
  private func withBlocks(_ body: (Range<Int>, UnsafePointer<Float>) -> Void) {
    switch storage {
    case .floats(let values):
      values.withUnsafeBufferPointer { values in
        if let start = values.baseAddress { body(0..<rows, start) }
      }
    case .mapped(let file, let tensor) where tensor.element == .float32:
      file.withFloats(of: tensor) { body(0..<rows, $0) }
    case .mapped(let file, let tensor):
      let blockRows = min(rows, max(1, Self.blockValues / columns))
      withUnsafeTemporaryAllocation(of: Float.self, capacity: blockRows * columns) { buffer in
        for first in stride(from: 0, to: rows, by: blockRows) {
          let block = first..<min(first + blockRows, rows)
          let values = UnsafeMutableBufferPointer(rebasing: buffer[..<(block.count * columns)])
          file.widen(tensor, from: first * columns, into: values)
          if let start = values.baseAddress { body(block, UnsafePointer(start)) }
        }
      }
    }
  }
}

extension SafetensorsFile {
  /// All values of a weight tensor.
  func floats(of tensor: Tensor) -> [Float] {
    let count = tensor.byteRange.count * 8 / tensor.element.bitCount
    return [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
      widen(tensor, from: 0, into: UnsafeMutableBufferPointer(rebasing: buffer[..<count]))
      initialized = count
    }
  }

  /// Values of a weight tensor from an index on, as many as the output holds.
  func widen(
    _ tensor: Tensor,
    from index: Int,
    into output: UnsafeMutableBufferPointer<Float>
  ) {
    let start = index * tensor.element.bitCount / 8
    let byteCount = output.count * tensor.element.bitCount / 8
    precondition(tensor.element.isWeight && start + byteCount <= tensor.byteRange.count)
    guard output.count > 0, let bytes = map.bytes.baseAddress else { return }
    WeightConversion.widen(
      tensor.element,
      bytes + tensor.byteRange.lowerBound + start,
      into: output
    )
  }

  /// The floats of an aligned float32 tensor, in the map.
  func withFloats(of tensor: Tensor, _ body: (UnsafePointer<Float>) -> Void) {
    guard let bytes = map.bytes.baseAddress else { return }
    body((bytes + tensor.byteRange.lowerBound).assumingMemoryBound(to: Float.self))
  }
}
