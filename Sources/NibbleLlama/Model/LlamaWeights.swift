import NibbleFiles
import NibbleKV

/// A matrix with its bias.
struct Linear: Sendable {
  let weights: WeightMatrix
  let bias: [Float]?

  /// Multiplies `[tokens, columns]` into `[tokens, rows]`.
  func apply(
    _ input: [Float],
    tokens: Int,
    into output: inout [Float],
    mode: MatrixProduct.Mode = .replace
  ) {
    weights.multiply(input, tokens: tokens, into: &output, mode: mode)
    if let bias { RowOperations.add(bias, to: &output, rows: tokens) }
  }
}

/// The weights of one layer.
struct LlamaLayer: Sendable {
  let inputNorm: [Float]
  let queries: Linear
  let keys: Linear
  let values: Linear
  let queryNorm: [Float]?
  let keyNorm: [Float]?
  let output: Linear
  let feedForwardNorm: [Float]
  let gate: Linear
  let up: Linear
  let down: Linear
}

/// All weights of a model.
struct LlamaWeights: Sendable {
  let embedding: WeightMatrix
  let layers: [LlamaLayer]
  let finalNorm: [Float]
  /// Nil if the embedding takes its place.
  let head: WeightMatrix?

  init(
    tensors: CheckpointTensors,
    configuration: ModelConfiguration,
    residency: WeightResidency
  ) throws(CheckpointError) {
    let loader = WeightLoader(tensors: tensors, isWidened: residency.widens(configuration))
    let vocabulary = configuration.vocabularySize
    let hidden = configuration.hiddenSize
    embedding = try loader.matrix("model.embed_tokens.weight", vocabulary, hidden)
    var layers: [LlamaLayer] = []
    for layer in 0..<configuration.shape.layers {
      layers.append(try loader.layer(layer, configuration: configuration))
    }
    self.layers = layers
    finalNorm = try loader.vector("model.norm.weight", hidden)
    head =
      configuration.tiesEmbeddings ? nil : try loader.matrix("lm_head.weight", vocabulary, hidden)
  }
}

/// How 16-bit weights are held while the model runs; float32 weights are held as they are.
public enum WeightResidency: Hashable, Sendable {
  /// Widened to float32 for models of up to 256 million parameters, packed for larger ones.
  case automatic
  /// Widened to float32 at load: twice the file in memory, the least work per token.
  case widened
  /// As the file has them, widened block by block for each product: half the memory, more work per token.
  case packed

  func widens(_ configuration: ModelConfiguration) -> Bool {
    switch self {
    case .automatic: configuration.parameterEstimate <= 256 << 20
    case .widened: true
    case .packed: false
    }
  }
}

extension ModelConfiguration {
  /// Parameters of all matrices; the limits of the values keep it from overflowing.
  var parameterEstimate: Int {
    let heads = 2 * (shape.queryHeads + shape.kvHeads) * shape.headDim
    let layer = hiddenSize * (heads + 3 * intermediateSize)
    return shape.layers * layer + vocabularySize * hiddenSize * (tiesEmbeddings ? 1 : 2)
  }
}

/// Finds tensors by name and checks their shapes.
private struct WeightLoader {
  let tensors: CheckpointTensors
  let isWidened: Bool

  func vector(_ name: String, _ count: Int) throws(CheckpointError) -> [Float] {
    let (file, tensor) = try tensors.tensor(name, shape: [count])
    return try reading { () throws(FileError) in try file.floats(of: tensor) }
  }

  func matrix(
    _ name: String,
    _ rows: Int,
    _ columns: Int
  ) throws(CheckpointError) -> WeightMatrix {
    let (file, tensor) = try tensors.tensor(name, shape: [rows, columns])
    return try reading { () throws(FileError) in
      try WeightMatrix(
        file: file,
        tensor: tensor,
        rows: rows,
        columns: columns,
        isWidened: isWidened
      )
    }
  }

  func linear(
    _ name: String,
    _ rows: Int,
    _ columns: Int,
    bias: Bool
  ) throws(CheckpointError) -> Linear {
    Linear(
      weights: try matrix(name + ".weight", rows, columns),
      bias: bias ? try vector(name + ".bias", rows) : nil
    )
  }

  func layer(
    _ index: Int,
    configuration: ModelConfiguration
  ) throws(CheckpointError) -> LlamaLayer {
    let prefix = "model.layers.\(index)."
    let attention = prefix + "self_attn."
    let shape = configuration.shape
    let hidden = configuration.hiddenSize
    let inner = configuration.intermediateSize
    let queryWidth = shape.queryHeads * shape.headDim
    let kvWidth = shape.kvHeads * shape.headDim
    let bias = configuration.hasAttentionBias
    let innerBias = configuration.hasFeedForwardBias
    let norms = configuration.normalizesHeads
    return LlamaLayer(
      inputNorm: try vector(prefix + "input_layernorm.weight", hidden),
      queries: try linear(attention + "q_proj", queryWidth, hidden, bias: bias),
      keys: try linear(attention + "k_proj", kvWidth, hidden, bias: bias),
      values: try linear(attention + "v_proj", kvWidth, hidden, bias: bias),
      queryNorm: norms ? try vector(attention + "q_norm.weight", shape.headDim) : nil,
      keyNorm: norms ? try vector(attention + "k_norm.weight", shape.headDim) : nil,
      output: try linear(
        attention + "o_proj",
        hidden,
        queryWidth,
        bias: configuration.hasOutputBias
      ),
      feedForwardNorm: try vector(prefix + "post_attention_layernorm.weight", hidden),
      gate: try linear(prefix + "mlp.gate_proj", inner, hidden, bias: innerBias),
      up: try linear(prefix + "mlp.up_proj", inner, hidden, bias: innerBias),
      down: try linear(prefix + "mlp.down_proj", hidden, inner, bias: innerBias)
    )
  }
}
