/// What a word of a `config.json` says about a layer.
enum LayerWord: Hashable {
  case full
  case sliding
  case chunked
  /// Attention, and a state of fixed size beside it.
  case beside
  /// No keys and values, for this reason.
  case without(String)

  init(_ word: String) {
    switch word {
    case "full_attention", "attention", "global", "global_attention", "full": self = .full
    case "sliding_attention", "local", "local_attention", "sliding": self = .sliding
    case "chunked_attention": self = .chunked
    case "hybrid": self = .beside
    case "linear_attention", "kda", "gated_deltanet":
      self = .without("linear attention: a state of fixed size, no keys and values")
    case "mamba", "mamba2", "ssm", "recurrent": self = .without(Self.stateSpace(word))
    case "conv": self = .without("a short convolution: a state of fixed size")
    case "cross_attention": self = .without("cross-attention: rows of the other input")
    case "mlp", "moe": self = .without("no attention (\(word))")
    default: self = .without("layer type '\(word)' is not known")
    }
  }

  static func stateSpace(_ word: String) -> String {
    "state space (\(word)): a state of fixed size, no keys and values"
  }
}

// MARK: - Where files say it

extension OutlineReader {
  /// A word for each layer, where the file or the family has one.
  func layerWords() throws(CheckpointError) -> [String]? {
    for key in ["layer_types", "layers_block_type", "attention_layers"] {
      if let words = try values.texts(key, count: layers) { return words }
    }
    for key in ["block_types", "_block_types"] {
      if let words = try values.texts(key), !words.isEmpty {
        // RecurrentGemma: its attention has a window.
        return (0..<layers).map { layer in
          let word = words[layer % words.count]
          return word == "attention" && family.usesWindows == true ? "local_attention" : word
        }
      }
    }
    if let words = try wordsOfNumbers() { return words }
    if let words = try wordsOfPositions() { return words }
    return try wordsOfChunks()
  }

  /// Lists of numbers, letters and objects.
  private func wordsOfNumbers() throws(CheckpointError) -> [String]? {
    // MiniMax: 1 for attention.
    if values["attn_type_list"] != nil {
      let numbers = try values.integers("attn_type_list", layers: layers, in: 0...1) ?? []
      return numbers.map { $0 == 1 ? "full_attention" : "linear_attention" }
    }
    // Nemotron-H: a letter for each layer.
    if let letters = try values.text("hybrid_override_pattern") {
      guard letters.count == layers else {
        throw values.wrong("hybrid_override_pattern", "one letter for each of \(layers) layers")
      }
      let words: [Character: String] = ["*": "attention", "M": "mamba", "-": "mlp", "E": "moe"]
      return letters.map { words[$0] ?? String($0) }
    }
    // GPT-Neo: words with the number of their repetitions.
    if let groups = try values.list("attention_types") {
      var words: [String] = []
      for group in groups {
        guard case .array(let parts) = group, parts.count == 2, case .array(let some) = parts[0],
          case .integer(let times) = parts[1], (1...layers).contains(times)
        else { throw values.wrong("attention_types", "lists of words and a number") }
        let repeated = Array(repeating: some, count: times).joined()
        for case .text(let word) in repeated.prefix(layers + 1) { words.append(word) }
      }
      guard words.count == layers else {
        throw values.wrong("attention_types", "one word for each of \(layers) layers")
      }
      return words
    }
    // DeciLM: layers without attention.
    guard let blocks = try values.list("block_configs", count: layers) else { return nil }
    return blocks.map { block in
      guard case .object(let block) = block, case .object(let attention)? = block["attention"]
      else {
        return "attention"
      }
      let isOff = [attention["no_op"], attention["replace_with_linear"]].contains(.boolean(true))
      return isOff ? "mlp" : "attention"
    }
  }

  /// Positions of the layers with attention; the others are what the family has there.
  private func wordsOfPositions() throws(CheckpointError) -> [String]? {
    let positions: Set<Int>?
    var other = "mamba"
    if let period = try values.integer("attn_layer_period", in: 1...layers)
      ?? family.attentionPeriod
    {
      let offset = try values.integer("attn_layer_offset", in: 0...(period - 1)) ?? period / 2
      positions = Set(0..<layers).filter { $0 % period == offset }
    } else if let interval = try values.integer("full_attention_interval", in: 1...layers)
      ?? family.fullInterval
    {
      positions = Set(0..<layers).filter { ($0 + 1) % interval == 0 }
      other = "linear_attention"
    } else if let indices = try values.indices("full_attn_idxs", layers: layers) {
      positions = indices
      other = "conv"
    } else if let nested = values.values("linear_attn_config") {
      // Kimi Linear counts layers from 1.
      positions = try nested.indices("full_attn_layers", layers: layers, from: 1)
      other = "kda"
    } else {
      positions = try values.indices("attn_layer_indices", layers: layers)
    }
    return positions.map { positions in
      (0..<layers).map { positions.contains($0) ? "attention" : other }
    }
  }

  /// Llama 4: layers with rotary positions attend in chunks.
  private func wordsOfChunks() throws(CheckpointError) -> [String]? {
    guard values["attention_chunk_size"] != nil || family.chunk != nil,
      !values.isNull("attention_chunk_size")
    else { return nil }
    let interval = try values.integer("no_rope_layer_interval", in: 1...layers) ?? 4
    var rotates = (0..<layers).map { ($0 + 1) % interval != 0 }
    if let list = try values.list("no_rope_layers"), !list.isEmpty {
      rotates =
        try values.integers("no_rope_layers", layers: layers, in: 0...1)?.map { $0 == 1 } ?? []
    }
    return rotates.map { $0 ? "chunked_attention" : "full_attention" }
  }
}
