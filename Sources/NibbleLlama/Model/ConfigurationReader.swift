import NibbleKV

/// `config.json` as it is written; every value may be absent.
struct ConfigurationFile: Decodable {
  var modelType: String?
  var vocabularySize: Int?
  var hiddenSize: Int?
  var intermediateSize: Int?
  var layers: Int?
  var queryHeads: Int?
  var contextLength: Int?
  var normEpsilon: Double?
  var activation: String?
  var tiesEmbeddings: Bool?
  var attentionBias: Bool?
  var feedForwardBias: Bool?
  var rotaryBase: Double?
  var rotaryShare: Double?
  var rotaryScaling: RotaryFile?
  var rotaryParameters: RotaryFile?
  /// The whole file: what a ``ModelOutline`` is read from.
  var root: JSONValue

  /// Bytes that a file may have.
  static let byteLimit = 16 << 20

  private enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case vocabularySize = "vocab_size"
    case hiddenSize = "hidden_size"
    case intermediateSize = "intermediate_size"
    case layers = "num_hidden_layers"
    case queryHeads = "num_attention_heads"
    case contextLength = "max_position_embeddings"
    case normEpsilon = "rms_norm_eps"
    case activation = "hidden_act"
    case tiesEmbeddings = "tie_word_embeddings"
    case attentionBias = "attention_bias"
    case feedForwardBias = "mlp_bias"
    case rotaryBase = "rope_theta"
    case rotaryShare = "partial_rotary_factor"
    case rotaryScaling = "rope_scaling"
    case rotaryParameters = "rope_parameters"
  }

  init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    modelType = try values.decodeIfPresent(String.self, forKey: .modelType)
    vocabularySize = try values.decodeIfPresent(Int.self, forKey: .vocabularySize)
    hiddenSize = try values.decodeIfPresent(Int.self, forKey: .hiddenSize)
    intermediateSize = try values.decodeIfPresent(Int.self, forKey: .intermediateSize)
    layers = try values.decodeIfPresent(Int.self, forKey: .layers)
    queryHeads = try values.decodeIfPresent(Int.self, forKey: .queryHeads)
    contextLength = try values.decodeIfPresent(Int.self, forKey: .contextLength)
    normEpsilon = try values.decodeIfPresent(Double.self, forKey: .normEpsilon)
    activation = try values.decodeIfPresent(String.self, forKey: .activation)
    tiesEmbeddings = try values.decodeIfPresent(Bool.self, forKey: .tiesEmbeddings)
    attentionBias = try values.decodeIfPresent(Bool.self, forKey: .attentionBias)
    feedForwardBias = try values.decodeIfPresent(Bool.self, forKey: .feedForwardBias)
    rotaryBase = try values.decodeIfPresent(Double.self, forKey: .rotaryBase)
    rotaryShare = try values.decodeIfPresent(Double.self, forKey: .rotaryShare)
    rotaryScaling = try values.decodeIfPresent(RotaryFile.self, forKey: .rotaryScaling)
    rotaryParameters = try values.decodeIfPresent(RotaryFile.self, forKey: .rotaryParameters)
    root = try JSONValue(from: decoder)
  }
}

/// `rope_scaling` of older files, `rope_parameters` of newer ones.
struct RotaryFile: Decodable {
  var type: String?
  var olderType: String?
  var base: Double?
  var share: Double?
  var factor: Double?
  var lowFactor: Double?
  var highFactor: Double?
  var originalContext: Double?
  var fullAttention: Nested?
  var slidingAttention: Nested?

  /// Parameters per layer type: known only to be refused.
  struct Nested: Decodable {}

  private enum CodingKeys: String, CodingKey {
    case type = "rope_type"
    case olderType = "type"
    case base = "rope_theta"
    case share = "partial_rotary_factor"
    case factor
    case lowFactor = "low_freq_factor"
    case highFactor = "high_freq_factor"
    case originalContext = "original_max_position_embeddings"
    case fullAttention = "full_attention"
    case slidingAttention = "sliding_attention"
  }
}

/// Checks the values of a `config.json`, with the defaults that transformers has for each family.
struct ConfigurationReader {
  let values: ConfigurationFile
  let file: String

  func family() throws(CheckpointError) -> ModelConfiguration.Family {
    guard let modelType = values.modelType else {
      throw .invalidValue(
        file: file,
        key: "model_type",
        value: "missing",
        expected: "the model's family"
      )
    }
    guard let family = ModelConfiguration.Family(rawValue: modelType) else {
      let families = ModelConfiguration.Family.allCases.map(\.rawValue)
      throw .unsupported(
        what: "model type",
        value: modelType,
        supported: families.joined(separator: ", ")
      )
    }
    return family
  }

  func integer(
    _ key: String,
    _ value: Int?,
    _ range: ClosedRange<Int>
  ) throws(CheckpointError) -> Int {
    guard let value, range.contains(value) else {
      throw .invalidValue(
        file: file,
        key: key,
        value: value.map(String.init) ?? "missing",
        expected: "from \(range.lowerBound) to \(range.upperBound)"
      )
    }
    return value
  }

  func number(
    _ key: String,
    _ value: Double?,
    above lower: Double,
    atMost upper: Double
  ) throws(CheckpointError) -> Double {
    guard let value, value > lower, value <= upper else {
      throw .invalidValue(
        file: file,
        key: key,
        value: value.map { "\($0)" } ?? "missing",
        expected: "above \(lower), at most \(upper)"
      )
    }
    return value
  }

  func checkActivation() throws(CheckpointError) {
    let activation = values.activation ?? "silu"
    guard activation == "silu" || activation == "swish" else {
      throw .unsupported(what: "activation", value: activation, supported: "silu")
    }
  }
}

// MARK: - The shape

extension ConfigurationReader {
  /// The shape of a model of which every layer attends to keys and values of its own, in full or in a sliding window.
  func shape() throws(CheckpointError) -> ModelShape {
    _ = try integer("num_hidden_layers", values.layers, 1...ModelShape.layerLimit)
    _ = try integer("num_attention_heads", values.queryHeads, 1...ModelShape.headLimit)
    let outline = try ModelOutline(root: values.root, file: file)
    if let other = outline.uncovered.map(\.reason).first ?? outline.notes.first {
      throw .unsupported(what: "attention", value: other, supported: "full, and in sliding windows")
    }
    return try outline.requireShape()
  }
}

// MARK: - The rotary embedding

extension ConfigurationReader {
  func rotary() throws(CheckpointError) -> RotaryConfiguration {
    let scaling = values.rotaryParameters ?? values.rotaryScaling
    if scaling?.fullAttention != nil || scaling?.slidingAttention != nil {
      throw .unsupported(
        what: "rope parameters",
        value: "per layer type",
        supported: "the same for all layers"
      )
    }
    let share = scaling?.share ?? values.rotaryShare ?? 1
    guard share == 1 else {
      throw .unsupported(what: "partial_rotary_factor", value: "\(share)", supported: "1")
    }
    let base = try number(
      "rope_theta",
      scaling?.base ?? values.rotaryBase ?? 10_000,
      above: 0,
      atMost: 1e30
    )
    return RotaryConfiguration(base: base, scaling: try self.scaling(scaling))
  }

  private func scaling(
    _ values: RotaryFile?
  ) throws(CheckpointError) -> RotaryConfiguration.Scaling {
    let type = values?.type ?? values?.olderType ?? "default"
    let factor = { () throws(CheckpointError) in
      try number("factor", values?.factor, above: 0, atMost: 1e6)
    }
    switch type {
    case "default":
      return .none
    case "linear":
      return .linear(factor: try factor())
    case "llama3":
      let low = try number("low_freq_factor", values?.lowFactor, above: 0, atMost: 1e6)
      let high = try number("high_freq_factor", values?.highFactor, above: low, atMost: 1e6)
      let context = values?.originalContext ?? self.values.contextLength.map(Double.init)
      return .llama3(
        factor: try factor(),
        lowFactor: low,
        highFactor: high,
        originalContext: try number(
          "original_max_position_embeddings",
          context,
          above: 0,
          atMost: 1e12
        )
      )
    default:
      throw .unsupported(what: "rope scaling", value: type, supported: "default, linear, llama3")
    }
  }
}
