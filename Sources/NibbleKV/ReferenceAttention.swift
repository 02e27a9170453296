#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Attention as the textbook has it, in double precision: the truth that the compressed cache is measured against.
///
/// For every query q of token position p: softmax over the visible positions t of cap(scale · q·k_t), times v_t.
/// Complexity: O(tokens · queryHeads · visible · headDim); plain loops, meant to be read.
public enum ReferenceAttention {
  /// Attends with queries of the newest tokens.
  ///
  /// - Parameters:
  ///   - queries: Shape (queryTokens, queryHeads, headDim).
  ///   - keys: Shape (tokens, kvHeads, headDim).
  ///   - values: The same shape.
  ///   - shape: The model's shape; its layer count does not matter here.
  ///   - options: Scale, window and cap.
  /// - Returns: Shape (queryTokens, queryHeads, headDim).
  /// - Precondition: Whole rows, no more query tokens than tokens, and a window of at least 1.
  public static func attend(
    queries: [Float],
    keys: [Float],
    values: [Float],
    shape: ModelShape,
    options: AttentionOptions = .standard
  ) -> [Double] {
    let dim = shape.headDim
    let queryTokens = queries.count / (shape.queryHeads * dim)
    let tokens = keys.count / (shape.kvHeads * dim)
    precondition(queryTokens <= tokens, "queries of \(queryTokens) tokens, keys of \(tokens)")
    precondition(options.window ?? 1 >= 1, "a window of \(options.window ?? 1) tokens")
    let group = shape.queryHeads / shape.kvHeads
    let scale = options.scale.map(Double.init) ?? 1 / Double(dim).squareRoot()
    var output = [Double](repeating: 0, count: queries.count)
    for queryToken in 0..<queryTokens {
      let position = tokens - queryTokens + queryToken
      let first = options.window.map { max(0, position - $0 + 1) } ?? 0
      for head in 0..<shape.queryHeads {
        let query = (queryToken * shape.queryHeads + head) * dim
        var scores: [Double] = []
        for token in first...position {
          let key = (token * shape.kvHeads + head / group) * dim
          var dot = 0.0
          for channel in 0..<dim {
            dot += Double(queries[query + channel]) * Double(keys[key + channel])
          }
          let score = dot * scale
          scores.append(options.softCap.map { Double($0) * tanh(score / Double($0)) } ?? score)
        }
        let top = scores.max() ?? 0
        let weights = scores.map { exp($0 - top) }
        let sum = weights.reduce(0, +)
        for (offset, weight) in weights.enumerated() {
          let value = ((first + offset) * shape.kvHeads + head / group) * dim
          for channel in 0..<dim {
            output[query + channel] += weight / sum * Double(values[value + channel])
          }
        }
      }
    }
    return output
  }
}
