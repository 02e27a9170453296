import Foundation
import NibbleKV

/// What `report` measures, figure by figure; the names of its JSON fields are fixed by Specs/cli.md.
public struct MeasurementReport: Encodable, Sendable {
  /// The version of the library.
  public var version = NibbleKVVersion.text
  /// When the measurement began, in UTC.
  public var date: String
  /// The model's name.
  public var model: String
  /// The model's attention layers.
  public var layers: Int
  /// Query heads of each layer.
  public var queryHeads: Int
  /// KV heads of each layer.
  public var kvHeads: Int
  /// Channels of a head.
  public var headDim: Int
  /// The instruction set that ran.
  public var isa = KVCache.instructionSet
  /// Codecs on normal rows.
  public var distortion: DistortionReport
  /// Each layer and KV head by itself.
  public var sensitivity: SensitivityReport
  /// Policies on text.
  public var quality: ParetoReport
  /// Bytes and time over the length of the context.
  public var scaling: RowReport<ScalingRow>
  /// Attention over the positions of the text.
  public var attentionError: ContextErrorReport
  /// What lies in which pages.
  public var pages: [PageReport]
  /// The page that was written.
  @NullableText public var path: String?
  /// Paths of the plots that were written as files of their own.
  public var plots: [String] = []

  private enum CodingKeys: String, CodingKey {
    case version, date, model, layers
    case queryHeads = "query_heads"
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case isa, distortion, sensitivity, quality, scaling
    case attentionError = "attention_error"
    case pages, path, plots
  }
}

/// Distortion against bits, with the least that any code can have.
public struct DistortionReport: Encodable, Sendable {
  /// A point of the bound.
  public struct BoundRow: Encodable, Hashable, Sendable {
    /// Bits per value.
    public var bitsPerValue: Double
    /// Squared error over squared values.
    public var relativeMSE: Double

    private enum CodingKeys: String, CodingKey {
      case bitsPerValue = "bits_per_value"
      case relativeMSE = "relative_mse"
    }
  }

  /// One row for each codec.
  public var rows: [CodecRow]
  /// 2^(−2 R) at whole bits: the rate-distortion bound of independent normal values.
  public var bound: [BoundRow] = (1...8).map { bits in
    BoundRow(bitsPerValue: Double(bits), relativeMSE: exp2(-2 * Double(bits)))
  }
}

/// What a codec does to predictions when it encodes one side of one KV head in one layer, and nothing else.
public struct SensitivityReport: Encodable, Sendable {
  /// One strip kind.
  public struct Row: Encodable, Hashable, Sendable {
    /// The attention layer, from 0.
    public var layer: Int
    /// The KV head, from 0.
    public var kvHead: Int
    /// `keys` or `values`.
    public var side: String
    /// KL(exact ‖ compressed) in nats, the mean over positions.
    @NullableNumber public var klMean: Double?

    private enum CodingKeys: String, CodingKey {
      case layer
      case kvHead = "kv_head"
      case side
      case klMean = "kl_mean"
    }
  }

  /// The codec, as it was given.
  public var codec: String
  /// Tokens of text.
  public var tokens: Int
  /// Layers first, then keys before values, then heads.
  public var rows: [Row]
}

/// Policies on the same text.
public struct ParetoReport: Encodable, Sendable {
  /// One row for each policy.
  public var rows: [QualityRow]
  /// The policies that no other one betters in both total bytes and mean KL divergence, from the smallest to the largest.
  public var front: [String]

  /// Finds the front.
  ///
  /// - Parameter rows: What was measured; rows without a divergence are not on the front.
  public init(rows: [QualityRow]) {
    self.rows = rows
    var least = Double.infinity
    front = []
    let measured = rows.compactMap { row in
      row.klMean.map { (policy: row.policy, bytes: row.totalBytes, divergence: $0) }
    }
    let sorted = measured.sorted { ($0.bytes, $0.divergence) < ($1.bytes, $1.divergence) }
    for row in sorted where row.divergence < least {
      least = row.divergence
      front.append(row.policy)
    }
  }
}

/// The error of attention's outputs along the context, layer by layer behind exact layers.
public struct ContextErrorReport: Encodable, Sendable {
  /// One step of positions under one policy.
  public struct Row: Encodable, Hashable, Sendable {
    /// The policy as it was given.
    public var policy: String
    /// The first position of the step.
    public var position: Int
    /// ‖attention − exact‖ / ‖exact‖ over all layers and documents.
    public var relativeError: Double

    private enum CodingKeys: String, CodingKey {
      case policy, position
      case relativeError = "relative_error"
    }
  }

  /// Positions that a row stands for.
  public var step: Int
  /// Policies first, then positions.
  public var rows: [Row]
}

/// What a cache holds in which pages after reading text.
public struct PageReport: Encodable, Sendable {
  /// Tokens that are stored alike.
  public struct Stretch: Encodable, Hashable, Sendable {
    /// The first of them.
    public var firstToken: Int
    /// How many.
    public var tokens: Int
    /// `sinks`, `sealed`, `tail` or `dropped`.
    public var kind: String
    /// What they are encoded with; `nil` where they are not held.
    @NullableText public var codec: String?
    /// With everything that is stored in a strip.
    @NullableNumber public var bitsPerValue: Double?

    private enum CodingKeys: String, CodingKey {
      case firstToken = "first_token"
      case tokens, kind, codec
      case bitsPerValue = "bits_per_value"
    }
  }

  /// Heads of one layer whose strips are encoded alike.
  public struct Row: Encodable, Hashable, Sendable {
    /// The attention layer, from 0.
    public var layer: Int
    /// The KV heads, in the words of the policy file.
    public var kvHeads: String
    /// `keys` or `values`.
    public var side: String
    /// From the first token to the last.
    public var stretches: [Stretch]

    private enum CodingKeys: String, CodingKey {
      case layer
      case kvHeads = "kv_heads"
      case side, stretches
    }
  }

  /// The policy as it was given.
  public var policy: String
  /// Tokens of the sequence.
  public var tokens: Int
  /// Tokens of a page.
  public var pageTokens: Int
  /// Tokens at the start that stay exact.
  public var sinks: Int
  /// Layers first, then keys before values, then heads.
  public var rows: [Row]

  private enum CodingKeys: String, CodingKey {
    case policy, tokens
    case pageTokens = "page_tokens"
    case sinks, rows
  }
}
