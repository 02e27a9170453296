import CNibble
import Foundation
import NibbleKV
import Testing

/// No key of a page scores above the bound that the page's summary gives.
@Suite struct SummaryTests {
  /// Rows that a bound might fail on.
  enum Kind: CaseIterable {
    case normal, shifted, equal, oneFarAway, alternating, tiny, huge, beyondFloat16

    func rows(_ tokens: Int, dim: Int, _ random: inout SeededRandom) -> [Float] {
      let normals = random.normals(tokens * dim)
      return normals.indices.map { index in
        let (token, channel) = (index / dim, index % dim)
        switch self {
        case .normal: return normals[index]
        case .shifted: return 100 + normals[index] / 100
        case .equal: return normals[channel]
        case .oneFarAway: return token == tokens / 2 ? 1_000 * normals[index] : normals[index]
        case .alternating: return token % 2 == 0 ? normals[channel] : -normals[channel]
        case .tiny: return normals[index] * 1e-30
        case .huge: return normals[index] * 1e30
        case .beyondFloat16: return channel % 3 == 0 ? 70_000 + normals[index] : normals[index]
        }
      }
    }
  }

  /// A query, and what becomes of its products with keys.
  struct Question {
    var query: [Float]
    var bias: Float = 0
    var scale: Float = 1
    var softCap: Float = 0

    func score(_ rows: [Float], token: Int) -> Double {
      let product = query.indices.reduce(Double(bias)) {
        $0 + Double(query[$1]) * Double(rows[token * query.count + $1])
      }
      let score = product * Double(scale)
      return softCap > 0 ? Double(softCap) * tanh(score / Double(softCap)) : score
    }

    /// What the kernels take for the largest score of a page.
    func bound(_ summary: [UInt8]) -> Double {
      query.withUnsafeBufferPointer { query in
        withUnsafePointer(to: bias) { bias in
          var rows = nibble_rows()
          rows.count = 1
          rows.queries = query.baseAddress
          rows.bias = bias
          rows.scale = scale
          rows.soft_cap = softCap
          return Double(nibble_test_score_bound(&rows, 0, Int32(query.count), summary))
        }
      }
    }
  }

  private func summary(of rows: [Float], tokens: Int, dim: Int) -> [UInt8] {
    var summary = [UInt8](repeating: 0xff, count: nibble_summary_bytes(Int32(dim)))
    nibble_summarize(rows, Int32(tokens), Int32(dim), &summary)
    return summary
  }

  /// Queries along a key's deviation from another score as high as any can.
  private func questions(
    _ rows: [Float],
    tokens: Int,
    dim: Int,
    _ random: inout SeededRandom
  ) -> [Question] {
    let token = Int.random(in: 0..<tokens, using: &random)
    let other = Int.random(in: 0..<tokens, using: &random)
    let along = (0..<dim).map { rows[token * dim + $0] - rows[other * dim + $0] }
    let axis = (0..<dim).map { $0 == token % dim ? Float(-3) : 0 }
    let normals = random.normals(dim)
    return [
      Question(query: normals), Question(query: along), Question(query: axis),
      Question(query: along.map { -$0 }, bias: 7, scale: 0.3),
      Question(query: normals.map { $0 * 1e20 }, bias: -3),
      Question(query: normals, bias: 1, scale: 0.2, softCap: 5),
    ]
  }

  @Test(arguments: Kind.allCases, [8, 16, 24, 64, 80, 128, 512])
  func noKeyScoresAboveTheBound(kind: Kind, dim: Int) {
    var random = SeededRandom(UInt64(dim))
    var checked = 0
    for tokens in [16, 48, 64, 128] {
      let rows = kind.rows(tokens, dim: dim, &random)
      let summary = summary(of: rows, tokens: tokens, dim: dim)
      for question in questions(rows, tokens: tokens, dim: dim, &random) {
        let bound = question.bound(summary)
        // Attention leaves nothing out by a bound that is no finite number.
        guard bound.isFinite else { continue }
        let scores = (0..<tokens).map { question.score(rows, token: $0) }
        // But for products that are too small for a float.
        #expect(scores.max() ?? 0 <= bound + 1e-37, "\(tokens) tokens")
        checked += 1
      }
    }
    #expect(checked >= 4)
  }

  /// A bound that is far above the scores would leave nothing out.
  @Test(arguments: [8, 24, 64, 128])
  func theBoundIsNear(dim: Int) {
    var random = SeededRandom(3)
    let tokens = 64
    let question = Question(query: random.normals(dim))
    for (kind, slack) in [(Kind.equal, 0.002 * Double(dim)), (.normal, 2 * Double(dim))] {
      let rows = kind.rows(tokens, dim: dim, &random)
      let most = (0..<tokens).map { question.score(rows, token: $0) }.max() ?? 0
      let bound = question.bound(summary(of: rows, tokens: tokens, dim: dim))
      #expect(bound <= most + slack, "\(kind)")
    }
  }
}
