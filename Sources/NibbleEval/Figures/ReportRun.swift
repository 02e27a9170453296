import Foundation
import NibbleGenerate
public import NibbleKV

/// How much is measured for a report.
public struct ReportEffort: Hashable, Sendable {
  /// Normal rows that each codec encodes.
  public var rows: Int
  /// Tokens of text that policies are compared on, and that the page maps and errors along the context show.
  public var textTokens: Int
  /// Tokens of text for each layer and KV head.
  public var sensitivityTokens: Int
  /// Tokens of the contexts whose bytes and times are measured.
  public var contexts: [Int]
  /// Steps to time at each context; `nil` times at least 15.
  public var runs: Int?
  /// Bytes that are read between two steps.
  var readByteCount = ReadBuffer.standardByteCount

  /// Some minutes with the embedded model.
  public static let standard = ReportEffort(
    rows: 4_096,
    textTokens: 8_192,
    sensitivityTokens: 2_048,
    contexts: (10...16).map { 1 << $0 }
  )

  /// Under a minute with the embedded model; wider intervals.
  public static let quick = ReportEffort(
    rows: 512,
    textTokens: 1_024,
    sensitivityTokens: 512,
    contexts: (9...13).map { 1 << $0 },
    runs: 5
  )
}

/// Gathers what a report shows, with the evaluations that `compare` and `bench` run.
public struct ReportRun {
  /// The model, the text, the threads and the codecs; questions are not asked.
  public var comparison: PolicyComparison
  /// Policies to show beside, or instead of, presets.
  public var policies: [Policy] = []
  /// What is tried on each layer and KV head by itself.
  public var probe: Policy
  /// How much is measured.
  public var effort = ReportEffort.standard

  /// Creates a run.
  ///
  /// - Parameters:
  ///   - comparison: The model, the text, the threads and the codecs.
  ///   - probe: The codec that is tried on each layer and KV head by itself; its rules and ages are left aside.
  public init(comparison: PolicyComparison, probe: Policy) {
    self.comparison = comparison
    self.probe = probe
    self.comparison.questions = []
  }

  /// Measures everything.
  ///
  /// - Parameter progress: Told after every step.
  /// - Returns: The numbers of all figures.
  /// - Throws: `KVError`, `CodecError`, ``EvaluationError``, or an error of the model.
  public func run(progress: ProgressHandler = { _ in }) throws -> MeasurementReport {
    let shape = comparison.model.shape
    // What does not fit the model is found out before minutes of work.
    for policy in policies + [probe] { try check(policy) }
    let date = Date.now.formatted(.iso8601)
    return MeasurementReport(
      date: date,
      model: comparison.model.name,
      layers: shape.layers,
      queryHeads: shape.queryHeads,
      kvHeads: shape.kvHeads,
      headDim: shape.headDim,
      distortion: try distortion(progress),
      sensitivity: try sensitivity(progress),
      quality: try quality(progress),
      scaling: RowReport(rows: try scaling(progress)),
      attentionError: try attentionError(progress),
      pages: try (policies.isEmpty ? [.balanced] : policies).map(pages(of:))
    )
  }

  private func check(_ policy: Policy) throws(PolicyError) {
    _ = try Plan(
      policy: policy,
      shape: comparison.model.shape,
      catalogue: comparison.catalogue
    )
  }

  /// Policies with a line of their own: those that were given, or else presets.
  private var shown: [Policy] {
    policies.isEmpty ? [.conservative, .balanced, .small] : policies
  }

  /// One codec for everything, to see presets and policies against.
  static let uniform = [
    "int8", "linear:4", "clustered:4", "bcq:4", "rotated:4", "trellis:4", "bcq:3", "rotated:3",
    "trellis:3", "bcq:2", "rotated:2", "trellis:2",
  ]

  /// The comparison on the first tokens of the text.
  private func reading(_ tokens: Int) -> PolicyComparison {
    var comparison = comparison
    comparison.documents = comparison.documents.prefix(tokens: tokens)
    return comparison
  }
}

// MARK: - Measurements

extension ReportRun {
  private func distortion(_ progress: ProgressHandler) throws -> DistortionReport {
    var codecs = CodecComparison()
    codecs.rows = effort.rows
    codecs.context = nil
    var rows = try codecs.run(codecs: try CodecComparison.everyCodec, progress: progress)
    // Its search takes thousands of times as long as other codecs.
    codecs.rows = min(256, effort.rows)
    rows += try codecs.run(codecs: [try Policy(argument: "seeded")], progress: progress)
    return DistortionReport(rows: rows)
  }

  /// Presets, uniform codecs that fit the model, and what was given, each once.
  private func quality(_ progress: ProgressHandler) throws -> ParetoReport {
    let uniform = try Policy.list(argument: Self.uniform.joined(separator: ","))
    let usual = (Policy.presets.filter { $0 != .exact } + uniform)
      .filter { (try? check($0)) != nil }
    let all = (usual + policies).reduce(into: [Policy]()) { list, policy in
      if !list.contains(where: { $0.label == policy.label }) { list.append(policy) }
    }
    let rows = try reading(effort.textTokens).run(policies: all, progress: progress)
    return ParetoReport(rows: rows)
  }

  /// Policies run side by side, some at a time, since each has a cache.
  private static let batch = 16

  private func sensitivity(_ progress: ProgressHandler) throws -> SensitivityReport {
    let shape = comparison.model.shape
    let reading = reading(effort.sensitivityTokens)
    let units = TuningUnit.all(of: shape, grouping: .heads)
    var rows = units.map {
      SensitivityReport.Row(layer: $0.layer, kvHead: $0.heads.lowerBound, side: $0.side.rawValue)
    }
    let policies = units.map { probe.alone($0, probe.codec($0.side), shape: shape) }
    for first in stride(from: 0, to: rows.count, by: Self.batch) {
      let batch = first..<min(first + Self.batch, rows.count)
      let results = try reading.run(policies: Array(policies[batch])) { step in
        let done = first * step.total + step.completed * batch.count
        progress(
          WorkProgress(phase: "heads", completed: done, total: rows.count * step.total)
        )
      }
      for (index, result) in zip(batch, results) { rows[index].klMean = result.klMean }
    }
    let tokens = reading.documents.reduce(0) { $0 + $1.count }
    return SensitivityReport(codec: probe.label, tokens: tokens, rows: rows)
  }

  private func scaling(_ progress: ProgressHandler) throws -> [ScalingRow] {
    var decode = DecodeBenchmark(
      shape: comparison.model.shape,
      threads: try KVCache(
        model: comparison.model.shape,
        policy: .float16,
        threads: comparison.threads
      ).threadCount
    )
    decode.runs = effort.runs
    decode.readByteCount = effort.readByteCount
    return try ScalingBenchmark(decode: decode).run(
      policies: [.float16] + shown.filter { $0.label != Policy.float16.label },
      contexts: effort.contexts,
      progress: progress
    ).rows
  }

  private func attentionError(_ progress: ProgressHandler) throws -> ContextErrorReport {
    let step = shown.map(\.pageTokens).min() ?? 64
    let tallies = try CodecModelComparison(policies: reading(effort.textTokens))
      .attention(shown, progress: progress)
    let rows = zip(shown, tallies).flatMap { policy, tally in
      tally.attention.sorted { $0.key < $1.key }.compactMap { position, sum in
        sum.relative.map {
          ContextErrorReport.Row(
            policy: policy.label,
            position: position,
            relativeError: $0.squareRoot()
          )
        }
      }
    }
    return ContextErrorReport(step: step, rows: rows)
  }

  /// A cache that has read the longest document.
  private func pages(of policy: Policy) throws -> PageReport {
    let documents = reading(effort.textTokens).documents
    let document = documents.max { $0.count < $1.count } ?? []
    let cache = try KVCache(
      model: comparison.model.shape,
      policy: policy,
      threads: comparison.threads,
      catalogue: comparison.catalogue
    )
    let sequence = cache.makeSequence()
    for first in stride(from: 0, to: document.count, by: policy.pageTokens) {
      let tokens = Array(document[first..<min(first + policy.pageTokens, document.count)])
      _ = try comparison.model.forward(tokens: tokens, store: sequence, logits: .none)
    }
    return try PageReport(sequence)
  }
}
