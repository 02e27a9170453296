internal import CNibble
import NibbleCodec
import NibblePolicy

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Combining partial results by their maxima, and what follows when all are in.
extension AttentionCall {
  /// Adds a partial result to the rows it belongs to; the mean of values counts with the weights that met it.
  func add(
    _ partial: WorkerScratch,
    rows: Int,
    isTransformed: Bool,
    mean: [Float]?,
    to combined: CombinedRows
  ) {
    for row in 0..<rows {
      let top = partial.maximum[row]
      guard top > -.infinity else { continue }
      let (old, new) = rescale(combined, row: row, to: top, sum: partial.sum[row])
      let source = partial.accumulator + row * padded
      let transformed = combined.transformed(row)
      let plain = combined.plain(row)
      nibble_combine(isTransformed ? transformed : plain, old, source, new, padded)
      if old != 1 { nibble_combine(isTransformed ? plain : transformed, old, source, 0, padded) }
      if let mean {
        mean.withUnsafeBufferPointer {
          nibble_combine(combined.plain(row), 1, $0.baseAddress, new * partial.sum[row], dim)
        }
      }
    }
  }

  /// Adds what a later segment of pages left.
  func add(_ part: CombinedRows, to total: CombinedRows, rows: Int) {
    for row in 0..<rows {
      let top = part.maximum[row]
      guard top > -.infinity else { continue }
      let (old, new) = rescale(total, row: row, to: top, sum: part.sum[row])
      nibble_combine(total.plain(row), old, part.plain(row), new, 2 * padded)
    }
  }

  /// Raises a row's maximum to cover `top` and adds `sum`; returns the factors of what was there (1 where that was nothing) and of what comes.
  private func rescale(
    _ combined: CombinedRows,
    row: Int,
    to top: Float,
    sum: Float
  ) -> (old: Float, new: Float) {
    let maximum = max(combined.maximum[row], top)
    let isFirst = combined.maximum[row] == -.infinity
    let old = isFirst ? 1 : exp(combined.maximum[row] - maximum)
    let new = exp(top - maximum)
    combined.maximum[row] = maximum
    combined.sum[row] = combined.sum[row] * old + sum * new
    return (old, new)
  }

  /// Divides by the sums, leaves the space of the codes and writes the output.
  func finish(
    _ item: Cut.Item,
    _ combined: CombinedRows,
    memory: WorkerScratch
  ) throws(KVError) {
    let rotatingValues = state.sealedCount > 0 ? kernels.rotatingValues(head: item.head) : nil
    for (index, token) in item.tokens.enumerated() {
      for member in 0..<item.members.count {
        let row = index * item.members.count + member
        let target = output + self.row(of: token, item, member: member) * dim
        let sum = combined.sum[row]
        guard sum > 0, sum.isFinite, combined.maximum[row].isFinite else {
          let head = item.head * group + item.members.lowerBound + member
          throw .scoresOutOfRange(layer: layer, token: token, queryHead: head)
        }
        let factor = 1 / sum
        if let rotatingValues {
          rotatingValues.transformBack(
            combined.transformed(row),
            count: 1,
            scratch: memory.transformedQueries
          )
          nibble_combine(combined.plain(row), 1, combined.transformed(row), 1, dim)
        }
        for channel in 0..<dim { target[channel] = combined.plain(row)[channel] * factor }
      }
    }
  }
}
