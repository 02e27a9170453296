internal import CNibble

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How much attention the keys of a layer draw from a sample of a call's queries.
///
/// Errors e of the keys turn a query's softmax weights p into others with a divergence of about `½ Σ p (1 - p) (q · e)²` (the
/// second-order term, for errors that know nothing of each other). So a key counts by `p (1 - p)`.
struct AttendedKeys {
  /// (tokens, kvHeads, headDim), as attention sees them.
  let keys: [Float]
  private let call: AttentionCall
  private let sinks: Int
  /// Query tokens of the call that are looked at.
  private let sampled: [Int]

  /// One position in so many: the keys have to be decoded for it.
  private static let interval = 16

  /// Decodes the keys; `nil` if none of the call's positions is sampled.
  ///
  /// - Throws: ``KVError/codec(_:)``.
  init?(call: AttentionCall, sinks: Int) throws(KVError) {
    let first = call.state.tokenCount - call.queryTokens
    sampled = (0..<call.queryTokens).filter { (first + $0 + 1) % Self.interval == 0 }
    guard !sampled.isEmpty, call.state.tokenCount > sinks else { return nil }
    self.call = call
    self.sinks = sinks
    keys = try RowReader.rows(kernels: call.kernels, state: call.state, shape: call.shape).keys
  }

  /// Σ p (1 - p) over the sampled queries that meet a KV head: (tokens); zero for sinks.
  ///
  /// - Complexity: O(sampled queries · tokens · headDim).
  func weights(ofHead head: Int) -> [Float] {
    let (dim, tokens) = (call.dim, call.state.tokenCount)
    let own = keysOfHead(head)
    var result = [Float](repeating: 0, count: tokens)
    var scores = result
    for token in sampled {
      for query in head * call.group..<(head + 1) * call.group {
        let row = call.queries + (token * call.shape.queryHeads + query) * dim
        nibble_analyse(own, Int32(tokens), Int32(dim), row, 1, &scores)
        add(&scores, of: tokens - call.queryTokens + token, to: &result)
      }
    }
    for sink in 0..<min(sinks, tokens) { result[sink] = 0 }
    return result
  }

  /// (tokens, headDim).
  private func keysOfHead(_ head: Int) -> [Float] {
    let (dim, heads) = (call.dim, call.shape.kvHeads)
    return (0..<call.state.tokenCount).flatMap { token in
      let start = (token * heads + head) * dim
      return keys[start..<start + dim]
    }
  }

  /// Turns the products of the query at `position` into softmax weights, and adds what errors would count.
  private func add(_ scores: inout [Float], of position: Int, to result: inout [Float]) {
    let options = call.options
    let scale = options.scale ?? 1 / Float(call.dim).squareRoot()
    let visible = max(0, options.window.map { position - $0 + 1 } ?? 0)..<position + 1
    var top = -Float.infinity
    for token in visible {
      var score = scores[token] * scale
      if let cap = options.softCap { score = cap * tanhf(score / cap) }
      scores[token] = score
      top = max(top, score)
    }
    var sum: Float = 0
    for token in visible {
      scores[token] = expf(scores[token] - top)
      sum += scores[token]
    }
    for token in visible {
      let weight = scores[token] / sum
      result[token] += weight * (1 - weight)
    }
  }
}
