public import NibbleGenerate
public import NibbleKV

/// A Llama, Mistral, Qwen2 or Qwen3 model from a Hugging Face directory, computed in float32.
///
/// Attention goes through the store alone: whatever the store does to keys and values, the model
/// sees.
public final class LlamaModel: DecoderModel {
  /// The checked `config.json`.
  public let configuration: ModelConfiguration
  /// The directory's name.
  public let name: String
  /// Layers, heads, head dimension and sliding windows, and the fingerprint of the weights.
  public let shape: ModelShape
  private let weights: LlamaWeights
  private let rotary: RotaryEmbedding

  /// Loads a model.
  ///
  /// - Parameters:
  ///   - directory: The directory with `config.json` and the weights.
  ///   - residency: How 16-bit weights are held.
  /// - Throws: ``CheckpointError``.
  public init(
    directory: ModelDirectory,
    residency: WeightResidency = .automatic
  ) throws(CheckpointError) {
    configuration = try directory.configuration()
    MatrixProduct.prepare(parameters: configuration.parameterEstimate)
    name = directory.name
    let tensors = try directory.weights()
    shape = try configuration.shape(named: tensors)
    weights = try LlamaWeights(
      tensors: tensors,
      configuration: configuration,
      residency: residency
    )
    rotary = RotaryEmbedding(
      configuration: configuration.rotary,
      headDim: configuration.shape.headDim
    )
  }

  /// Loads a model from the directory of this path.
  public convenience init(directory path: String) throws(CheckpointError) {
    try self.init(directory: ModelDirectory(path: path))
  }

  /// The number of logits per position.
  public var vocabularySize: Int { configuration.vocabularySize }

  /// Appends the tokens to the store and computes logits.
  ///
  /// - Throws: ``CheckpointError/tokenOutOfRange(id:vocabularySize:)`` or
  ///   ``CheckpointError/wrongStore(reason:)`` before anything changes; an error of the store, after
  ///   which the store holds what it held before.
  public func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits: LogitsRequest
  ) throws -> [Float] {
    try check(tokens: tokens, store: store)
    guard !tokens.isEmpty else { return [] }
    return try store.undoingOnFailure {
      let hidden = try run(tokens: tokens, position: store.tokenCount, store: store)
      return self.logits(hidden, tokens: tokens.count, request: logits)
    }
  }
}

// MARK: - The forward pass

extension LlamaModel {
  /// Buffers of one pass; rows are tokens.
  private struct Workspace {
    var hidden: [Float]
    var normed: [Float]
    var queries: [Float]
    var keys: [Float]
    var values: [Float]
    var attended: [Float]
    var gate: [Float]
    var up: [Float]

    init(tokens: Int, configuration: ModelConfiguration) {
      let shape = configuration.shape
      let buffer = { (width: Int) in [Float](repeating: 0, count: tokens * width) }
      hidden = buffer(configuration.hiddenSize)
      normed = hidden
      queries = buffer(shape.queryHeads * shape.headDim)
      attended = queries
      keys = buffer(shape.kvHeads * shape.headDim)
      values = keys
      gate = buffer(configuration.intermediateSize)
      up = gate
    }
  }

  private func check(tokens: [Int], store: some KeyValueStore) throws(CheckpointError) {
    for id in tokens where !(0..<vocabularySize).contains(id) {
      throw .tokenOutOfRange(id: id, vocabularySize: vocabularySize)
    }
    let other = store.shape
    let fits =
      other.layers == shape.layers && other.queryHeads == shape.queryHeads
      && other.kvHeads == shape.kvHeads && other.headDim == shape.headDim
    guard fits else {
      throw .wrongStore(
        reason: """
          the store has (layers, query heads, KV heads, head dimension) \
          \((other.layers, other.queryHeads, other.kvHeads, other.headDim)); the model has \
          \((shape.layers, shape.queryHeads, shape.kvHeads, shape.headDim))
          """
      )
    }
  }

  /// The residual stream after the last layer, `[tokens, hidden]`.
  private func run(
    tokens: [Int],
    position: Int,
    store: some KeyValueStore
  ) throws -> [Float] {
    var work = Workspace(tokens: tokens.count, configuration: configuration)
    embed(tokens, into: &work.hidden)
    let angles = rotary.angles(positions: position..<position + tokens.count)
    for (index, layer) in weights.layers.enumerated() {
      try Task.checkCancellation()
      normalize(&work, tokens: tokens.count, weights: layer.inputNorm)
      project(&work, tokens: tokens.count, layer: layer, angles: angles)
      try attend(&work, layer: index, store: store)
      layer.output.apply(work.attended, tokens: tokens.count, into: &work.hidden, mode: .add)
      normalize(&work, tokens: tokens.count, weights: layer.feedForwardNorm)
      feedForward(&work, tokens: tokens.count, layer: layer)
    }
    return work.hidden
  }

  private func embed(_ tokens: [Int], into hidden: inout [Float]) {
    let width = configuration.hiddenSize
    hidden.withUnsafeMutableBufferPointer { hidden in
      for (index, id) in tokens.enumerated() {
        let row = UnsafeMutableBufferPointer(
          rebasing: hidden[index * width..<(index + 1) * width]
        )
        weights.embedding.copyRow(id, into: row)
      }
    }
  }

  private func normalize(_ work: inout Workspace, tokens: Int, weights: [Float]) {
    RowOperations.normalize(
      work.hidden,
      rows: tokens,
      weights: weights,
      epsilon: configuration.normEpsilon,
      into: &work.normed
    )
  }

  /// Queries, keys and values of the normed rows, normalized and rotated.
  private func project(
    _ work: inout Workspace,
    tokens: Int,
    layer: LlamaLayer,
    angles: RotaryAngles
  ) {
    layer.queries.apply(work.normed, tokens: tokens, into: &work.queries)
    layer.keys.apply(work.normed, tokens: tokens, into: &work.keys)
    layer.values.apply(work.normed, tokens: tokens, into: &work.values)
    let epsilon = configuration.normEpsilon
    if let weights = layer.queryNorm {
      RowOperations.normalize(
        &work.queries,
        rows: tokens * shape.queryHeads,
        weights: weights,
        epsilon: epsilon
      )
    }
    if let weights = layer.keyNorm {
      RowOperations.normalize(
        &work.keys,
        rows: tokens * shape.kvHeads,
        weights: weights,
        epsilon: epsilon
      )
    }
    angles.rotate(&work.queries, heads: shape.queryHeads)
    angles.rotate(&work.keys, heads: shape.kvHeads)
  }

  private func attend(
    _ work: inout Workspace,
    layer: Int,
    store: some KeyValueStore
  ) throws(KVError) {
    try store.append(keys: work.keys.span, values: work.values.span, layer: layer)
    var options = AttentionOptions.standard
    options.window = shape.slidingWindows[layer]
    let queries = work.queries
    var output = work.attended.mutableSpan
    try store.attend(queries: queries.span, layer: layer, options: options, into: &output)
  }

  private func feedForward(_ work: inout Workspace, tokens: Int, layer: LlamaLayer) {
    layer.gate.apply(work.normed, tokens: tokens, into: &work.gate)
    layer.up.apply(work.normed, tokens: tokens, into: &work.up)
    RowOperations.gate(
      &work.gate,
      with: work.up,
      count: tokens * configuration.intermediateSize
    )
    layer.down.apply(work.gate, tokens: tokens, into: &work.hidden, mode: .add)
  }

  private func logits(_ hidden: [Float], tokens: Int, request: LogitsRequest) -> [Float] {
    let rows: Int
    switch request {
    case .all: rows = tokens
    case .last: rows = 1
    case .none: return []
    }
    let width = configuration.hiddenSize
    let input = rows == tokens ? hidden : Array(hidden.suffix(width))
    var normed = [Float](repeating: 0, count: rows * width)
    RowOperations.normalize(
      input,
      rows: rows,
      weights: weights.finalNorm,
      epsilon: configuration.normEpsilon,
      into: &normed
    )
    var logits = [Float](repeating: 0, count: rows * vocabularySize)
    (weights.head ?? weights.embedding).multiply(normed, tokens: rows, into: &logits)
    return logits
  }
}
