import Foundation
public import NibbleKV

/// A tuned policy with the evidence for it.
public struct TuningOutcome: Sendable {
  /// The policy.
  public var policy: Policy
  /// What was measured.
  public var report: TuningReport

  /// The policy as a file, the evidence in comments.
  public var yaml: String {
    report.comments.map { $0.isEmpty ? "#\n" : "# \($0)\n" }.joined() + policy.yaml
  }

  /// Writes ``yaml``.
  ///
  /// - Throws: ``EvaluationError/unwritable(path:reason:)``.
  public func write(to path: String) throws(EvaluationError) {
    try writeText(yaml, to: path)
  }
}

/// What `tune` reports; the names of its JSON fields are fixed by Specs/cli.md.
public struct TuningReport: Encodable, Sendable {
  /// The version of the library.
  public var version = NibbleKVVersion.text
  /// The model's name.
  public var model: String
  /// The policy file that was written.
  public var policyFile: String?
  /// The HTML file that was written.
  public var path: String?
  /// The budget, as it was given.
  public var budget: String
  /// Bytes that the budget allows at ``context``.
  public var limitBytes: Int
  /// Tokens of the context that bytes are counted for.
  public var context: Int
  /// What losses are.
  public var measure: PolicyTuner.Measure
  /// Tokens that codecs were chosen by.
  public var tuningTokens: Int
  /// Tokens that the outcome was checked on.
  public var checkTokens: Int
  /// The losses of the units, each alone, added up.
  public var lossOfParts: Double
  /// ``lossOfParts`` times the factor that policies for fewer and for more bytes have on the text of the check: what the loss of the
  /// policy should be there.
  public var lossPredicted: Double
  /// The policy on the text of the check.
  public var tuned: TuningRow
  /// The uniform policy within the budget that has the least loss there.
  public var bestUniform: TuningRow?
  /// Other numbers of sinks and recent tokens at the same bytes, on the text that codecs were chosen by; empty where none were tried.
  public var windows: [TuningRow]
  /// Everything that was compared on the text of the check.
  public var rows: [TuningRow]
  /// Each unit: what it was given, and what it might have had.
  public var units: [UnitRow]
  /// What stands out, in sentences.
  public var findings: [String]

  /// A rung of a unit.
  public struct RungRow: Encodable, Hashable, Sendable {
    /// The codec.
    public var codec: String
    /// Bits per value.
    public var bitsPerValue: Double
    /// The loss when it encodes the unit alone.
    public var loss: Double

    private enum CodingKeys: String, CodingKey {
      case codec
      case bitsPerValue = "bits_per_value"
      case loss
    }
  }

  /// One side of some KV heads of a layer.
  public struct UnitRow: Encodable, Hashable, Sendable {
    /// The attention layer, from 0.
    public var layer: Int
    /// The KV heads, from 0.
    public var kvHeads: String
    /// `keys` or `values`.
    public var side: String
    /// The codec that it was given.
    public var codec: String
    /// Its bits per value.
    public var bitsPerValue: Double
    /// What was tried, from the fewest bits to the most.
    public var rungs: [RungRow]

    private enum CodingKeys: String, CodingKey {
      case layer
      case kvHeads = "kv_heads"
      case side, codec
      case bitsPerValue = "bits_per_value"
      case rungs
    }
  }

  private enum CodingKeys: String, CodingKey {
    case version, model
    case policyFile = "policy_file"
    case path, budget
    case limitBytes = "limit_bytes"
    case totalBytes = "total_bytes"
    case context
    case bitsPerValue = "bits_per_value"
    case measure
    case tuningTokens = "tuning_tokens"
    case checkTokens = "check_tokens"
    case lossOfParts = "loss_of_parts"
    case lossPredicted = "loss_predicted"
    case lossMeasured = "loss_measured"
    case lossBestUniform = "loss_best_uniform"
    case klPredicted = "kl_predicted"
    case klMeasured = "kl_measured"
    case klBestUniform = "kl_best_uniform"
    case bestUniform = "best_uniform"
    case sameTop1 = "same_top_1"
    case compressedTokens = "compressed_tokens"
    case rows, windows, units, findings
  }

  /// Writes every field; what does not exist is null.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(version, forKey: .version)
    try container.encode(model, forKey: .model)
    try container.encode(policyFile, forKey: .policyFile)
    try container.encode(path, forKey: .path)
    try container.encode(budget, forKey: .budget)
    try container.encode(limitBytes, forKey: .limitBytes)
    try container.encode(tuned.totalBytes, forKey: .totalBytes)
    try container.encode(context, forKey: .context)
    try container.encode(tuned.bitsPerValue, forKey: .bitsPerValue)
    try container.encode(measure.rawValue, forKey: .measure)
    try container.encode(tuningTokens, forKey: .tuningTokens)
    try container.encode(checkTokens, forKey: .checkTokens)
    try container.encode(lossOfParts, forKey: .lossOfParts)
    try container.encode(lossPredicted, forKey: .lossPredicted)
    try container.encode(tuned.loss, forKey: .lossMeasured)
    try container.encode(bestUniform?.loss, forKey: .lossBestUniform)
    let isDivergence = measure == .logits
    try container.encode(isDivergence ? lossPredicted : nil, forKey: .klPredicted)
    try container.encode(isDivergence ? tuned.loss : nil, forKey: .klMeasured)
    try container.encode(isDivergence ? bestUniform?.loss : nil, forKey: .klBestUniform)
    try container.encode(bestUniform?.policy, forKey: .bestUniform)
    try container.encode(tuned.sameTop1, forKey: .sameTop1)
    try container.encode(tuned.compressedTokens, forKey: .compressedTokens)
    try container.encode(rows, forKey: .rows)
    try container.encode(windows, forKey: .windows)
    try container.encode(units, forKey: .units)
    try container.encode(findings, forKey: .findings)
  }
}

/// One policy on one text.
public struct TuningRow: Codable, Hashable, Sendable {
  /// The policy as it was given, or what it is.
  public var policy: String
  /// Bytes at the context of the report.
  public var totalBytes: Int
  /// Bits per value of sealed pages.
  public var bitsPerValue: Double
  /// The mean KL divergence of predictions in nats, or the squared error of attention's outputs relative to their power.
  public var loss: Double
  /// The lower end of its 95 % interval.
  @NullableNumber public var lossLow: Double?
  /// The upper end of that interval.
  @NullableNumber public var lossHigh: Double?
  /// The loss over that of the comparison's first policy.
  @NullableNumber public var ratio: Double?
  /// The lower end of its 95 % interval.
  @NullableNumber public var ratioLow: Double?
  /// The upper end of that interval.
  @NullableNumber public var ratioHigh: Double?
  /// Share of the positions with the same most probable token.
  @NullableNumber public var sameTop1: Double?
  /// Tokens in compressed pages.
  public var compressedTokens: Int
  /// Positions that were compared.
  public var positions: Int

  private enum CodingKeys: String, CodingKey {
    case policy
    case totalBytes = "total_bytes"
    case bitsPerValue = "bits_per_value"
    case loss
    case lossLow = "loss_low"
    case lossHigh = "loss_high"
    case ratio
    case ratioLow = "ratio_low"
    case ratioHigh = "ratio_high"
    case sameTop1 = "same_top_1"
    case compressedTokens = "compressed_tokens"
    case positions
  }
}
