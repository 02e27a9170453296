/// What a family's files may leave out, by its `model_type`: the defaults of its configuration class in transformers.
struct ModelFamily {
  var layers: Int?
  var width: Int?
  var queryHeads: Int?
  /// As many as query heads if there is no number.
  var kvHeads: Int?
  var headDim: Int?
  /// The sliding window of layers that have one.
  var window: Int?
  /// Whether layers have windows when the file does not say; `nil` where that is not known.
  var usesWindows: Bool?
  /// Of so many layers the last one has full attention.
  var period: Int?
  /// The first layer with a window.
  var firstWindow: Int?
  /// The chunk of layers that attend in chunks.
  var chunk: Int?
  /// Layers at the end that use an earlier layer's rows.
  var sharedLayers = 0
  /// Of so many layers one has attention, the others a state space.
  var attentionPeriod: Int?
  /// Of so many layers the last one has full attention, the others linear attention.
  var fullInterval: Int?
  /// Whether one KV head serves all query heads, unless the file says otherwise.
  var isMultiQuery = false

  /// Models whose layers all have a state of fixed size.
  static let withoutAttention: Set = [
    "mamba", "mamba2", "falcon_mamba", "rwkv", "rwkv5", "rwkv6", "rwkv7", "xlstm",
  ]

  init(modelType: String) {
    self = Self.families[modelType] ?? ModelFamily()
  }

  init(
    _ layers: Int? = nil,
    width: Int? = nil,
    heads: Int? = nil,
    kvHeads: Int? = nil,
    headDim: Int? = nil,
    window: Int? = nil,
    usesWindows: Bool? = nil,
    period: Int? = nil
  ) {
    self.layers = layers
    self.width = width
    queryHeads = heads
    self.kvHeads = kvHeads
    self.headDim = headDim
    self.window = window
    self.usesWindows = usesWindows
    self.period = period
  }

  private static let qwen2 = with(ModelFamily(32, width: 4096, heads: 32, kvHeads: 32)) {
    $0.window = 4096
    $0.usesWindows = false
    $0.firstWindow = 28
  }

  private static let qwen3 = with(qwen2) { $0.headDim = 128 }

  private static let gemma3 = ModelFamily(
    26,
    width: 2304,
    heads: 8,
    kvHeads: 4,
    headDim: 256,
    window: 4096,
    usesWindows: true,
    period: 6
  )

  private static let llama4 = with(
    ModelFamily(48, width: 5120, heads: 40, kvHeads: 8, headDim: 128)
  ) {
    $0.chunk = 8192
    $0.usesWindows = false
  }

  private static let qwen3Next = with(
    ModelFamily(48, width: 2048, heads: 16, kvHeads: 2, headDim: 256)
  ) {
    $0.fullInterval = 4
  }

  private static let multiQuery = with(ModelFamily(usesWindows: false)) { $0.isMultiQuery = true }

  private static let families: [String: ModelFamily] = [
    "llama": ModelFamily(32, width: 4096, heads: 32, usesWindows: false),
    "llama4_text": llama4,
    "llama4": llama4,
    "mistral": ModelFamily(32, width: 4096, heads: 32, kvHeads: 8, window: 4096, usesWindows: true),
    "mixtral": ModelFamily(32, width: 4096, heads: 32, kvHeads: 8, usesWindows: true),
    "qwen2": qwen2,
    "qwen2_moe": with(qwen2) {
      $0.layers = 24; $0.kvHeads = 16; $0.queryHeads = 16; $0.width = 2048
    },
    "qwen2_vl": qwen2,
    "qwen2_5_vl": qwen2,
    "qwen3": qwen3,
    "qwen3_moe": with(qwen3) {
      $0.headDim = nil; $0.layers = 24; $0.kvHeads = 4; $0.width = 2048
    },
    "qwen3_next": qwen3Next,
    "gemma": ModelFamily(28, width: 3072, heads: 16, kvHeads: 16, headDim: 256, usesWindows: false),
    "gemma2": with(gemma3) { $0.period = 2 },
    "gemma3": gemma3,
    "gemma3_text": gemma3,
    "gemma3n_text": with(gemma3) {
      $0.layers = 35
      $0.width = 2048
      $0.kvHeads = 2
      $0.window = 512
      $0.period = 5
      $0.sharedLayers = 15
    },
    "phi": ModelFamily(24, width: 2048, heads: 32, usesWindows: false),
    "phi3": ModelFamily(32, width: 3072, heads: 32, usesWindows: true),
    "phimoe": ModelFamily(32, width: 4096, heads: 32, kvHeads: 8, usesWindows: true),
    "starcoder2": ModelFamily(30, width: 3072, heads: 24, kvHeads: 2, usesWindows: true),
    "cohere2": ModelFamily(40, width: 8192, heads: 64, window: 4096, usesWindows: true, period: 4),
    "gpt_oss": ModelFamily(
      36,
      width: 2880,
      heads: 64,
      kvHeads: 8,
      headDim: 64,
      window: 128,
      usesWindows: true,
      period: 2
    ),
    "gpt2": ModelFamily(12, width: 768, heads: 12, usesWindows: false),
    "gpt_neo": ModelFamily(24, width: 2048, heads: 16, window: 256, usesWindows: true),
    "gpt_neox": ModelFamily(44, width: 6144, heads: 64, usesWindows: false),
    "gptj": ModelFamily(28, width: 4096, heads: 16, usesWindows: false),
    "gpt_bigcode": multiQuery,
    "falcon": multiQuery,
    "RefinedWebModel": multiQuery,
    "RefinedWeb": ModelFamily(usesWindows: false),
    "jamba": with(ModelFamily(32, width: 4096, heads: 32, kvHeads: 8, usesWindows: false)) {
      $0.attentionPeriod = 8
    },
    "recurrent_gemma": ModelFamily(
      26,
      width: 2560,
      heads: 10,
      headDim: 256,
      window: 2048,
      usesWindows: true
    ),
  ]

  private static func with(_ family: ModelFamily, _ change: (inout ModelFamily) -> Void)
    -> ModelFamily
  {
    var family = family
    change(&family)
    return family
  }
}
