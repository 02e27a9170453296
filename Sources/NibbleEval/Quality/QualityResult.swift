import Foundation
import NibbleKV

/// What a policy costs in bytes and in quality on a text.
public struct QualityResult: Hashable, Sendable {
  /// The policy as it was given.
  public var policy: String
  /// Documents that were read.
  public var documents: Int
  /// Tokens of all documents.
  public var tokens: Int
  /// Of these, tokens in compressed pages at the end of their document.
  public var compressedTokens: Int
  /// Bits per value of the compressed pages; of the plan's pages where nothing was sealed.
  public var bitsPerValue: Double
  /// Bytes held at the end of each document, summed: pages, tail and sinks.
  public var totalBytes: Int
  /// Bytes of float16 rows for the same tokens.
  public var exactBytes: Int
  /// Positions that were compared.
  public var positions: Int
  /// KL(exact ‖ compressed) over the positions, in nats; `nil` if there were none.
  public var divergence: SampleSummary?
  /// The mean of ``divergence`` over that of the baseline, over the same positions; `nil` without a baseline or where the
  /// two were compared at different positions.
  public var divergenceRatio: RatioSummary?
  /// Share of the positions where both have the same most probable token.
  public var sameTop1: Double?
  /// exp of the mean negative log-likelihood of the next token.
  public var perplexity: Double?
  /// The same with the exact cache, over the same positions.
  public var perplexityExact: Double?
  /// Share of the sealed pages that attention left out; `nil` where the policy leaves nothing out.
  public var skippedPages: Double?
  /// Of the pages that attention read, the share whose values it left out.
  public var skippedValues: Double?
}

extension Plan {
  /// Whether any page is sealed in a codec other than exact rows.
  var compresses: Bool { entries.contains { !$0.codec.isExactRows } }
}

/// Gathers one policy's comparisons.
struct QualityTally {
  private let plan: Plan
  private var divergences: [Double] = []
  private var sameTop = 0
  private var nextTokens = 0
  private var likelihood = 0.0
  private var exactLikelihood = 0.0
  private var compressedTokens = 0
  private var totalBytes = 0
  private var exactBytes = 0
  private var pageBytes = 0
  private var sealedValues = 0.0

  init(plan: Plan) {
    self.plan = plan
  }

  var policy: Policy { plan.policy }

  mutating func add(_ comparison: LogitComparison) {
    divergences.append(comparison.divergence)
    if comparison.sameTop { sameTop += 1 }
    guard
      let likelihood = comparison.negativeLogLikelihood,
      let exactLikelihood = comparison.exactNegativeLogLikelihood
    else { return }
    nextTokens += 1
    self.likelihood += likelihood
    self.exactLikelihood += exactLikelihood
  }

  func ratio(to baseline: QualityTally) -> RatioSummary? {
    RatioSummary(divergences, over: baseline.divergences)
  }

  mutating func endDocument(_ statistics: SequenceStatistics) {
    compressedTokens += statistics.compressedTokens
    totalBytes += statistics.totalBytes
    exactBytes += statistics.exactBytes
    guard statistics.bitsPerValue > 0 else { return }
    pageBytes += statistics.pageBytes
    sealedValues += Double(statistics.pageBytes * 8) / statistics.bitsPerValue
  }

  func result(documents: Int, tokens: Int, skipping: SkippingCounts) -> QualityResult {
    QualityResult(
      policy: policy.label,
      documents: documents,
      tokens: tokens,
      compressedTokens: compressedTokens,
      bitsPerValue: sealedValues > 0 ? Double(pageBytes * 8) / sealedValues : plan.bitsPerValue,
      totalBytes: totalBytes,
      exactBytes: exactBytes,
      positions: divergences.count,
      divergence: SampleSummary(divergences),
      sameTop1: divergences.isEmpty ? nil : Double(sameTop) / Double(divergences.count),
      perplexity: perplexity(likelihood),
      perplexityExact: perplexity(exactLikelihood),
      skippedPages: share(skipping.skippedPages, beside: skipping.attendedPages),
      skippedValues: share(skipping.skippedStretches, beside: skipping.attendedStretches)
    )
  }

  private func share(_ part: Int, beside rest: Int) -> Double? {
    part + rest > 0 ? Double(part) / Double(part + rest) : nil
  }

  private func perplexity(_ sum: Double) -> Double? {
    guard nextTokens > 0 else { return nil }
    let value = exp(sum / Double(nextTokens))
    return value.isFinite ? value : nil
  }
}
