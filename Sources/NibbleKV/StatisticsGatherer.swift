import NibbleCodec
import NibblePolicy
import Synchronization

/// Sums of the rows that a cache sees, for calibration: queries by the KV head that they meet.
///
/// Sinks are left out: they stay exact, and their rows are like no other.
final class StatisticsGatherer: Sendable {
  private final class Layer: Sendable {
    let heads: Mutex<[RowStatistics]>

    init(shape: ModelShape) {
      heads = Mutex(
        Array(repeating: RowStatistics(headDim: shape.headDim), count: shape.kvHeads)
      )
    }
  }

  private let shape: ModelShape
  private let sinks: Int
  private let layers: [Layer]

  init(plan: Plan) {
    shape = plan.shape
    sinks = plan.policy.sinks
    layers = (0..<plan.shape.layers).map { _ in Layer(shape: plan.shape) }
  }

  /// Layers, then KV heads.
  var statistics: [[RowStatistics]] { layers.map { $0.heads.withLock { $0 } } }

  func add(_ rows: LayerWriter.Rows, position: Int, layer: Int) {
    let skipped = min(rows.count, max(0, sinks - position))
    let dim = shape.headDim
    layers[layer].heads.withLock { heads in
      for head in heads.indices {
        let start = skipped * rows.rowLength + head * dim
        let count = rows.count - skipped
        heads[head].add(keys: rows.keys + start, count: count, stride: rows.rowLength)
        heads[head].add(values: rows.values + start, count: count, stride: rows.rowLength)
      }
    }
  }

  /// Adds the queries of a call and, for some of them, the keys by the attention that they draw.
  ///
  /// - Throws: ``KVError/codec(_:)`` if a host's codec cannot decode its keys.
  func add(queriesOf call: AttentionCall) throws(KVError) {
    addQueries(of: call)
    guard let sample = try AttendedKeys(call: call, sinks: sinks) else { return }
    for head in 0..<shape.kvHeads {
      let weights = sample.weights(ofHead: head)
      sample.keys.withUnsafeBufferPointer { keys in
        guard let base = keys.baseAddress else { return }
        layers[call.layer].heads.withLock {
          $0[head].add(
            attendedKeys: base + head * shape.headDim,
            weights: weights,
            stride: shape.kvHeads * shape.headDim
          )
        }
      }
    }
  }

  private func addQueries(of call: AttentionCall) {
    let count = call.queryTokens
    let position = call.state.tokenCount - count
    let skipped = min(count, max(0, sinks - position))
    let group = shape.queryHeads / shape.kvHeads
    let rowLength = shape.queryHeads * shape.headDim
    layers[call.layer].heads.withLock { heads in
      for head in 0..<shape.queryHeads {
        heads[head / group].add(
          queries: call.queries + skipped * rowLength + head * shape.headDim,
          count: count - skipped,
          stride: rowLength
        )
      }
    }
  }
}
