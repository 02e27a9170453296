import NibbleKV

/// What one layer of a model does, as far as a cache is concerned.
enum LayerKind: Hashable {
  /// Keys and values of its own, of the whole context or of a window.
  case attention(window: Int?)
  /// No such keys and values, for this reason.
  case uncovered(String)
}

/// The heads of one layer.
struct HeadShape: Hashable, CustomStringConvertible {
  var queryHeads: Int
  var kvHeads: Int
  var keyDim: Int
  var valueDim: Int

  var description: String {
    "\(queryHeads) query heads and \(kvHeads) KV heads of \(keyDim) channels"
  }

  /// Why a cache cannot hold such rows.
  var problem: String? {
    if keyDim != valueDim {
      return "keys of \(keyDim) channels and values of \(valueDim): rows of one length are needed"
    }
    if keyDim % 8 != 0 || !(8...512).contains(keyDim) {
      return "\(keyDim) channels of a head, which is no multiple of 8 from 8 to 512"
    }
    return nil
  }
}

/// Finds out what the layers of a `config.json` are.
struct OutlineReader {
  /// The object that describes the text model.
  let values: ConfigurationValues
  let modelType: String
  let family: ModelFamily
  let layers: Int
  private(set) var notes: [String] = []

  private static let layerKeys = [
    "num_hidden_layers", "num_decoder_layers", "decoder_layers", "n_layer", "n_layers",
    "num_layers",
  ]

  init(root: ConfigurationValues) throws(CheckpointError) {
    values = Self.textModel(in: root)
    let nestedType = try values.text("model_type")
    let rootType = try root.text("model_type")
    modelType = nestedType ?? rootType ?? ""
    family = ModelFamily(modelType: modelType)
    let count = try values.integer(firstOf: Self.layerKeys, in: 1...ModelShape.layerLimit)
    guard let count = count ?? family.layers else {
      throw values.missing("num_hidden_layers", "from 1 to \(ModelShape.layerLimit)")
    }
    layers = count
    if try values.boolean("is_encoder_decoder") ?? false {
      notes.append("keys and values of the encoder's output, for cross-attention, are not counted")
    }
  }

  /// Where several models are nested, the one that reads and writes text.
  private static func textModel(in root: ConfigurationValues) -> ConfigurationValues {
    guard root.first(of: layerKeys) == nil else { return root }
    for key in ["text_config", "llm_config", "language_config", "thinker_config", "decoder"] {
      if let nested = root.values(key) { return textModel(in: nested) }
    }
    return root
  }

  var contextLength: Int? {
    for key in ["max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx"] {
      if case .integer(let tokens)? = values[key] { return tokens }
    }
    return nil
  }
}

// MARK: - Kinds of layers

extension OutlineReader {
  mutating func layerKinds() throws(CheckpointError) -> [LayerKind] {
    var kinds: [LayerKind]
    if ModelFamily.withoutAttention.contains(modelType) {
      kinds = Array(repeating: .uncovered(LayerWord.stateSpace(modelType)), count: layers)
    } else if let words = try layerWords() {
      kinds = []
      for word in words { kinds.append(try kind(of: word)) }
    } else {
      let windows = try windows()
      kinds = windows.map { .attention(window: $0) }
    }
    try leaveOutOtherRows(&kinds)
    return kinds
  }

  /// Attention whose rows are another layer's, or not keys and values.
  private mutating func leaveOutOtherRows(_ kinds: inout [LayerKind]) throws(CheckpointError) {
    func replace(_ layer: Int, _ reason: String) {
      if case .attention = kinds[layer] { kinds[layer] = .uncovered(reason) }
    }
    if let rank = try values.integer("kv_lora_rank", in: 1...(1 << 20)) {
      for layer in kinds.indices {
        replace(layer, "latent attention: a vector of rank \(rank) in place of keys and values")
      }
    }
    for layer in try values.indices("cross_attention_layers", layers: layers) ?? [] {
      replace(layer, "cross-attention: rows of the other input")
    }
    let sharing = "takes the keys and values of an earlier layer"
    let shared = try values.integer("num_kv_shared_layers", in: 0...layers) ?? family.sharedLayers
    for layer in kinds.indices.suffix(min(shared, layers)) { replace(layer, sharing) }
    if try values.boolean("use_cla") ?? false {
      let factor = try values.integer("cla_share_factor", in: 1...layers) ?? 2
      for layer in kinds.indices where layer % factor != 0 { replace(layer, sharing) }
    }
  }

  private mutating func kind(of word: String) throws(CheckpointError) -> LayerKind {
    switch LayerWord(word) {
    case .full:
      return .attention(window: nil)
    case .sliding:
      if try usesWindows() == false { return .attention(window: nil) }
      guard let window = try window() else {
        throw values.missing("sliding_window", "the window of the layers '\(word)'")
      }
      return .attention(window: window)
    case .chunked:
      return .attention(window: try chunk())
    case .beside:
      note("a state of fixed size beside attention, in layers '\(word)', is not counted")
      return .attention(window: nil)
    case .without(let reason):
      return .uncovered(reason)
    }
  }

  /// Whether there are layers with windows; `nil` where that is not known.
  private func usesWindows() throws(CheckpointError) -> Bool? {
    try values.boolean("use_sliding_window") ?? family.usesWindows
  }

  /// The window of layers that have one.
  private func window() throws(CheckpointError) -> Int? {
    for key in ["sliding_window", "attention_window_size", "window_size", "sliding_window_size"] {
      if values.isNull(key) { return nil }
      if let window = try values.integer(key, in: 1...ModelShape.tokenLimit) { return window }
    }
    return family.window
  }

  /// The chunk of attention that begins anew: a token sees at most so many.
  private mutating func chunk() throws(CheckpointError) -> Int? {
    guard
      let chunk = try values.integer("attention_chunk_size", in: 1...ModelShape.tokenLimit)
        ?? family.chunk
    else { return nil }
    note("attention in chunks is planned as a sliding window of \(chunk) tokens")
    return chunk
  }

  private mutating func note(_ text: String) {
    if !notes.contains(text) { notes.append(text) }
  }

  /// The window of each layer, where no list of words says what layers are.
  private mutating func windows() throws(CheckpointError) -> [Int?] {
    let usesWindows = try usesWindows()
    if usesWindows == false {
      return Array(repeating: nil, count: layers)
    }
    guard let window = try window() else { return Array(repeating: nil, count: layers) }
    if values["use_sliding_window"] != nil,
      let first = try values.integer("max_window_layers", in: 0...(1 << 20)) ?? family.firstWindow
    {
      return (0..<layers).map { $0 >= first ? window : nil }
    }
    if let period = try period() {
      return (0..<layers).map { ($0 + 1) % period == 0 ? nil : window }
    }
    if usesWindows == nil {
      note(
        "sliding_window \(window) is taken to be that of all layers; the file does not say of which"
      )
    }
    return Array(repeating: window, count: layers)
  }

  /// How many layers it is from one with full attention to the next: a number, or a word such as `LLLG`.
  private func period() throws(CheckpointError) -> Int? {
    for key in ["sliding_window_pattern", "_sliding_window_pattern"] {
      switch values[key] {
      case .text(let word)?:
        guard word.hasSuffix("G"), word.dropLast().allSatisfy({ $0 == "L" }) else {
          throw values.wrong(key, "a number, or a word such as 'LLLG'")
        }
        return word.count
      case _?: return try values.integer(key, in: 1...layers)
      case nil: continue
      }
    }
    return family.period
  }
}

// MARK: - Heads

extension OutlineReader {
  /// The heads of each layer that has attention; `nil` for the others.
  func headShapes(of kinds: [LayerKind]) throws(CheckpointError) -> [HeadShape?] {
    guard kinds.contains(where: { if case .attention = $0 { true } else { false } }) else {
      return kinds.map { _ in nil }
    }
    let queryHeads = try queryHeads()
    let kvHeads = try kvHeads(queryHeads: queryHeads)
    let headDim = try headDim(queryHeads: queryHeads[0])
    let valueDim = try values.integer("v_head_dim", in: 1...Self.widthLimit) ?? headDim
    let fullHeadDim = try values.integer("global_head_dim", in: 1...Self.widthLimit)
    let fullHeads = try values.integer("num_global_key_value_heads", in: 1...queryHeads[0])
    var shapes: [HeadShape?] = []
    for (layer, kind) in kinds.enumerated() {
      guard case .attention(let window) = kind else {
        shapes.append(nil)
        continue
      }
      var shape = HeadShape(
        queryHeads: queryHeads[layer],
        kvHeads: kvHeads[layer],
        keyDim: headDim,
        valueDim: valueDim
      )
      if window == nil, let fullHeadDim {
        shape.keyDim = fullHeadDim
        shape.valueDim = fullHeadDim
        shape.kvHeads = fullHeads ?? shape.kvHeads
      }
      guard shape.queryHeads % shape.kvHeads == 0 else {
        throw .invalidValue(
          file: values.file,
          key: values.first(of: Self.kvHeadKeys) ?? "num_key_value_heads",
          value: "\(shape.kvHeads)",
          expected: "a divisor of \(shape.queryHeads) heads"
        )
      }
      shapes.append(shape)
    }
    return shapes
  }

  private static let headKeys = [
    "num_attention_heads", "decoder_attention_heads", "n_head", "n_heads", "num_heads",
    "num_query_heads",
  ]
  private static let kvHeadKeys = [
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "num_query_groups",
  ]
  private static let headDimKeys = ["head_dim", "attention_head_dim", "kv_channels", "d_kv"]
  private static let widthKeys = [
    "hidden_size", "d_model", "n_embd", "n_embed", "dim", "model_dim",
  ]
  private static let widthLimit = 1 << 17

  private func queryHeads() throws(CheckpointError) -> [Int] {
    let range = 1...ModelShape.headLimit
    if let key = values.first(of: Self.headKeys) {
      return try values.integers(key, layers: layers, in: range) ?? []
    }
    guard let heads = family.queryHeads else {
      throw values.missing("num_attention_heads", "from 1 to \(ModelShape.headLimit)")
    }
    return Array(repeating: heads, count: layers)
  }

  /// The KV heads of each layer; without a word in the file, as many as query heads.
  private func kvHeads(queryHeads: [Int]) throws(CheckpointError) -> [Int] {
    let range = 1...ModelShape.headLimit
    if let groups = try groupSizes(queryHeads: queryHeads) { return groups }
    if try isMultiQuery() {
      let heads = try values.integer("multi_query_group_num", in: range) ?? 1
      return Array(repeating: heads, count: layers)
    }
    // An older Falcon names the KV heads of an architecture that it doesn't have.
    let isWord = modelType != "falcon" || values["new_decoder_architecture"] == .boolean(true)
    if isWord, let key = values.first(of: Self.kvHeadKeys) {
      return try values.integers(key, layers: layers, in: range) ?? []
    }
    if let nested = values.values("attn_config"),
      let heads = try nested.integer("kv_n_heads", in: range)
    {
      return Array(repeating: heads, count: layers)
    }
    return family.kvHeads.map { Array(repeating: $0, count: layers) } ?? queryHeads
  }

  private func isMultiQuery() throws(CheckpointError) -> Bool {
    if try values.boolean("new_decoder_architecture") ?? false { return false }
    if values.values("attn_config")?["attn_type"] == .text("multiquery_attention") { return true }
    let older = try values.boolean("multi_query_attention")
    return try values.boolean("multi_query") ?? older ?? family.isMultiQuery
  }

  /// DeciLM: how many query heads share a KV head, layer by layer.
  private func groupSizes(queryHeads: [Int]) throws(CheckpointError) -> [Int]? {
    guard let blocks = try values.list("block_configs", count: layers) else { return nil }
    return blocks.enumerated().map { layer, block in
      guard case .object(let block) = block, case .object(let attention)? = block["attention"],
        case .integer(let group)? = attention["n_heads_in_group"], group > 0
      else { return queryHeads[layer] }
      return max(1, queryHeads[layer] / group)
    }
  }

  private func headDim(queryHeads: Int) throws(CheckpointError) -> Int {
    let widths = 1...Self.widthLimit
    if let headDim = try values.integer(firstOf: Self.headDimKeys, in: widths) { return headDim }
    if let headDim = family.headDim { return headDim }
    let given = try values.integer(firstOf: Self.widthKeys, in: widths)
    guard let width = given ?? family.width else {
      throw values.missing("hidden_size", "from 1 to \(Self.widthLimit)")
    }
    guard width % queryHeads == 0 else {
      throw .invalidValue(
        file: values.file,
        key: values.first(of: Self.widthKeys) ?? "hidden_size",
        value: "\(width)",
        expected: "a multiple of \(queryHeads) heads"
      )
    }
    return width / queryHeads
  }
}
