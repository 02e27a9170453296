import Foundation
public import NibbleKV

/// A row of `bench scaling`; the names of its JSON fields are fixed by Specs/cli.md.
public struct ScalingRow: Encodable, Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Tokens of the context.
  public var tokens: Int
  /// Query heads.
  public var queryHeads: Int
  /// KV heads.
  public var kvHeads: Int
  /// Channels of a head.
  public var headDim: Int
  /// Threads of the cache.
  public var threads: Int
  /// The instruction set that ran.
  public var isa: String
  /// Median time of one attention step of one layer, in microseconds.
  public var medianMicroseconds: Double
  /// Steps that were timed.
  public var runs: Int
  /// Bytes of the pages that a step reads.
  public var pageBytes: Int
  /// The median time over the tokens of the context.
  public var nanosecondsPerToken: Double

  private enum CodingKeys: String, CodingKey {
    case policy, tokens
    case queryHeads = "query_heads"
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case threads, isa
    case medianMicroseconds = "median_us"
    case runs
    case pageBytes = "page_bytes"
    case nanosecondsPerToken = "nanoseconds_per_token"
  }
}

/// What `bench scaling` reports; the names of its JSON fields are fixed by Specs/cli.md.
public struct ScalingReport: Encodable, Sendable {
  /// The rows, contexts first.
  public var rows: [ScalingRow]
  /// Paths of the plots that were written.
  public var plots: [String] = []
}

/// Times one attention step over contexts of growing length, as ``DecodeBenchmark`` does.
public struct ScalingBenchmark: Sendable {
  /// Powers of two from 1,024 to 1,048,576 tokens.
  public static let standardContexts = (10...20).map { 1 << $0 }

  /// How a step is timed.
  public var decode: DecodeBenchmark
  /// Bytes that may be taken; without it, what the system says is available.
  var availableBytes: Int?

  /// Creates a benchmark.
  public init(decode: DecodeBenchmark) {
    self.decode = decode
  }

  /// Measures every policy at every context.
  ///
  /// - Parameters:
  ///   - policies: What is compared.
  ///   - contexts: Tokens.
  ///   - progress: Told after every chunk that is filled.
  /// - Returns: One row for each policy and context, contexts first.
  /// - Throws: `KVError`, or ``EvaluationError``: above all
  ///   ``EvaluationError/notEnoughMemory(context:needed:available:)``, before anything is measured.
  public func run(
    policies: [Policy],
    contexts: [Int] = standardContexts,
    progress: ProgressHandler = { _ in }
  ) throws -> ScalingReport {
    try checkMemory(policies, contexts: contexts)
    let rows = try decode.run(policies: policies, contexts: contexts, progress: progress)
    return ScalingReport(
      rows: rows.map { row in
        ScalingRow(
          policy: row.policy,
          tokens: row.tokens,
          queryHeads: row.queryHeads,
          kvHeads: row.kvHeads,
          headDim: row.headDim,
          threads: row.threads,
          isa: row.isa,
          medianMicroseconds: row.medianMicroseconds,
          runs: row.runs,
          pageBytes: row.pageBytes,
          nanosecondsPerToken: row.medianMicroseconds * 1e3 / Double(row.tokens)
        )
      }
    )
  }

  /// The pages of all policies live together while they take turns.
  private func checkMemory(_ policies: [Policy], contexts: [Int]) throws {
    for context in contexts { try check("context", context, in: 1...ModelShape.tokenLimit) }
    guard let largest = contexts.max() else { return }
    var needed = decode.readByteCount
    for cache in try BenchmarkCaches.make(policies, shape: decode.shape, threads: decode.threads) {
      let layers = cache.plan.layers
      let pages = largest / cache.plan.policy.pageTokens + 1
      needed += layers[layers.count / 2].pageLayout.byteCount * pages
    }
    let available = try availableBytes ?? SystemMemory.available()
    guard needed <= available else {
      throw EvaluationError.notEnoughMemory(
        context: largest,
        needed: needed,
        available: available
      )
    }
  }
}

// MARK: - Plots

extension ScalingReport {
  /// Time over context, one line for each policy.
  package var chart: LineChart {
    chart(
      title: "One decode step of one layer, \(heads)",
      vertical: PlotAxis(
        title: "time of a step",
        scale: .logarithmic(base: 10),
        text: Self.timeText
      ),
      number: \.medianMicroseconds
    )
  }

  /// Bytes over context, one line for each policy.
  package var memoryChart: LineChart {
    chart(
      title: "Bytes of one layer, \(heads)",
      vertical: PlotAxis(
        title: "bytes",
        scale: .logarithmic(base: 2),
        text: NumberText.roundBytes
      ),
      number: { Double($0.pageBytes) }
    )
  }

  private func chart(
    title: String,
    vertical: PlotAxis,
    number: (ScalingRow) -> Double
  ) -> LineChart {
    LineChart(
      title: title,
      horizontal: PlotAxis(
        title: "tokens of context",
        scale: .logarithmic(base: 2),
        text: Self.tokensText
      ),
      vertical: vertical,
      series: distinct(rows.map(\.policy)).map { policy in
        let points = rows.filter { $0.policy == policy }.sorted { $0.tokens < $1.tokens }
          .map { LineChart.Point(x: Double($0.tokens), y: number($0)) }
        return LineChart.Series(name: policy, points: points)
      }
    )
  }

  private var heads: String {
    rows.first.map { "\($0.queryHeads):\($0.kvHeads) heads of \($0.headDim)" } ?? ""
  }

  /// Such as 512, 64K and 1M.
  static func tokensText(_ tokens: Double) -> String {
    switch tokens {
    case ..<1_024: NumberText.decimal(tokens, 0)
    case ..<1_048_576: NumberText.decimal(tokens / 1_024, 0) + "K"
    default: NumberText.decimal(tokens / 1_048_576, 0) + "M"
    }
  }

  /// Three digits, which are none too many for powers of ten.
  private static func timeText(_ microseconds: Double) -> String {
    switch microseconds {
    case ..<999.4: NumberText.significant(microseconds) + " µs"
    case ..<999_400: NumberText.significant(microseconds / 1e3) + " ms"
    default: NumberText.significant(microseconds / 1e6) + " s"
    }
  }
}
