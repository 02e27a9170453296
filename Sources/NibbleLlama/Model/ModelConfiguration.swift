public import Foundation
import NibbleFiles
public import NibbleKV

/// A model's `config.json`, checked.
public struct ModelConfiguration: Hashable, Sendable {
  /// The kinds of models that this host runs, by their `model_type`.
  public enum Family: String, Hashable, Sendable, CaseIterable {
    /// Llama 1, 2, 3 and models of the same form.
    case llama
    /// Mistral; its layers may have a sliding window.
    case mistral
    /// Qwen 2 and 2.5; queries, keys and values have biases.
    case qwen2
    /// Qwen 3; queries and keys are normalized per head.
    case qwen3
  }

  /// The kind of model.
  public let family: Family
  /// Token ids are smaller than this.
  public let vocabularySize: Int
  /// The width of the residual stream.
  public let hiddenSize: Int
  /// The width of the feed-forward layers.
  public let intermediateSize: Int
  /// Layers, heads, head dimension and sliding windows.
  public let shape: ModelShape
  /// Tokens that the model was trained for; nothing stops a host from going beyond.
  public let contextLength: Int?
  /// What is added to the mean square before the root.
  public let normEpsilon: Float
  /// The rotary embedding.
  public let rotary: RotaryConfiguration
  /// Whether the output matrix is the embedding.
  public let tiesEmbeddings: Bool
  /// Whether queries, keys and values have biases.
  public let hasAttentionBias: Bool
  /// Whether the output of attention has a bias.
  public let hasOutputBias: Bool
  /// Whether the feed-forward matrices have biases.
  public let hasFeedForwardBias: Bool

  /// Whether queries and keys are normalized per head.
  public var normalizesHeads: Bool { family == .qwen3 }

  /// Reads a `config.json`.
  ///
  /// - Throws: `CheckpointError` if it cannot be read, lacks a value, has an absurd one, or
  ///   describes a model that this host cannot run.
  public init(path: String) throws(CheckpointError) {
    let file = try reading { () throws(FileError) in
      try readJSON(ConfigurationFile.self, path: path, limit: ConfigurationFile.byteLimit)
    }
    try self.init(file: file, name: (path as NSString).lastPathComponent)
  }

  /// Reads the contents of a `config.json`.
  public init(json: Data) throws(CheckpointError) {
    let name = "config.json"
    let file = try reading { () throws(FileError) in
      try decodeJSON(ConfigurationFile.self, from: json, file: name)
    }
    try self.init(file: file, name: name)
  }

  private init(file: ConfigurationFile, name: String) throws(CheckpointError) {
    let reader = ConfigurationReader(values: file, file: name)
    family = try reader.family()
    vocabularySize = try reader.integer("vocab_size", file.vocabularySize, 1...(1 << 24))
    hiddenSize = try reader.integer("hidden_size", file.hiddenSize, 1...(1 << 17))
    intermediateSize = try reader.integer(
      "intermediate_size",
      file.intermediateSize,
      1...(1 << 20)
    )
    shape = try reader.shape()
    contextLength = file.contextLength
    normEpsilon = Float(
      try reader.number("rms_norm_eps", file.normEpsilon ?? 1e-6, above: 0, atMost: 1)
    )
    rotary = try reader.rotary()
    tiesEmbeddings = file.tiesEmbeddings ?? false
    let attentionBias = file.attentionBias ?? false
    hasAttentionBias = family == .qwen2 || (family != .mistral && attentionBias)
    hasOutputBias = (family == .llama || family == .qwen3) && attentionBias
    hasFeedForwardBias = family == .llama && file.feedForwardBias ?? false
    try reader.checkActivation()
  }
}

/// Rotary position embedding: the base and how its frequencies are scaled.
public struct RotaryConfiguration: Hashable, Sendable {
  /// How frequencies change for long contexts.
  public enum Scaling: Hashable, Sendable {
    /// As trained.
    case none
    /// All frequencies divided by a factor.
    case linear(factor: Double)
    /// Llama 3.1: low frequencies divided by a factor, high ones kept, a ramp between.
    case llama3(factor: Double, lowFactor: Double, highFactor: Double, originalContext: Double)
  }

  /// The base of the frequencies, `rope_theta`.
  public let base: Double
  /// How the frequencies are scaled.
  public let scaling: Scaling
}
