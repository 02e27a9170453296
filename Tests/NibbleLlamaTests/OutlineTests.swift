import Foundation
import NibbleKV
import Testing

@testable import NibbleLlama

/// A `config.json` of `Fixtures/configurations`, and what it says.
struct ConfiguredModel: CustomTestStringConvertible {
  var file: String
  var layers: Int
  /// Query heads, KV heads and channels, such as `32:8x128`.
  var heads: String
  /// Covered layers by their window, such as `21x4096 21xall`.
  var windows: String
  /// Bytes of the sealed pages of 32,768 tokens with keys and values in eight bits.
  var pageBytes: Int
  var covered: String
  var uncovered: [String]
  var testDescription: String { file }

  init(
    _ file: String,
    _ layers: Int,
    _ heads: String,
    _ windows: String,
    _ pageBytes: Int,
    _ covered: String = "all",
    _ uncovered: [String] = []
  ) {
    self.file = file
    self.layers = layers
    self.heads = heads
    self.windows = windows
    self.pageBytes = pageBytes
    self.covered = covered
    self.uncovered = uncovered
  }
}

@Suite("Outlines of models")
struct OutlineTests {
  /// Bytes by hand.
  ///
  /// 32,768 tokens in chunks of 512: 32,256 are there before the last append, so
  /// (32,256 - 4 - 64) / 64 = 502 pages are sealed. With a window of W the last append drops (32,256 - (W - 1) - 64 - 4) / 64 of them in all:
  /// of 4,096 64 pages are left, of 8,192 128, of 2,047 and 2,048 32, of 1,024 16, of 512 8, of 256 4, of 128 2. In one such layer the 8 pages that the
  /// append drops are still there. A page of a KV head has 2 sides x 64 tokens x (channels + 2 bytes of a scale); a window of 128 is no
  /// longer than the tail, and its pages have 2 x 64 x channels x 2 bytes.
  static let models = [
    ConfiguredModel("llama-2-7b", 32, "32:32x128", "32xall", 8_553_758_720),
    ConfiguredModel("llama-3-8b", 32, "32:8x128", "32xall", 2_138_439_680),
    ConfiguredModel("llava-7b", 32, "32:32x128", "32xall", 8_553_758_720),
    ConfiguredModel("llama-4-scout", 48, "40:8x128", "36x8192 12xall", 1_416_396_800),
    ConfiguredModel(
      "llama-3.2-11b-vision",
      40,
      "32:8x128",
      "32xall",
      2_138_439_680,
      "0-2,4-7,9-12,14-17,19-22,24-27,29-32,34-37,39",
      [
        "3,8,13,18,23,28,33,38: cross-attention: rows of the other input"
      ]
    ),
    ConfiguredModel("mistral-7b", 32, "32:8x128", "32x4096", 273_694_720),
    ConfiguredModel("mistral-nemo-12b", 40, "32:8x128", "40xall", 2_673_049_600),
    ConfiguredModel("gemma-2-9b", 42, "16:8x256", "21x4096 21xall", 3_142_299_648),
    ConfiguredModel("gemma-3-4b", 34, "8:4x256", "29x1024 5xall", 393_910_272),
    ConfiguredModel(
      "gemma-3n-e2b",
      30,
      "8:2x256",
      "16x512 4xall",
      141_606_912,
      "0-19",
      [
        "20-29: takes the keys and values of an earlier layer"
      ]
    ),
    ConfiguredModel("gpt-oss-20b", 24, "64:8x64", "12x128 12xall", 411_320_320),
    ConfiguredModel("qwen2-7b", 28, "28:4x128", "28xall", 935_567_360),
    ConfiguredModel("qwen2-windows", 28, "28:4x128", "21xall 7x4096", 732_026_880),
    ConfiguredModel("qwen3-30b-a3b", 48, "32:4x128", "48xall", 1_603_829_760),
    ConfiguredModel(
      "qwen3-next-80b",
      48,
      "16:2x256",
      "12xall",
      397_873_152,
      "3,7,11,15,19,23,27,31,35,39,43,47",
      [
        "0-2,4-6,8-10,12-14,16-18,20-22,24-26,28-30,32-34,36-38,40-42,44-46: linear attention: a state of fixed size, no keys and values"
      ]
    ),
    ConfiguredModel("phi-3-mini-4k", 32, "32:32x96", "32x2047", 414_253_056),
    ConfiguredModel("gpt2", 12, "12:12x64", "12xall", 610_689_024),
    ConfiguredModel("gpt-neo-1.3b", 24, "16:16x128", "12xall 12x256", 1_618_739_200),
    ConfiguredModel("gpt-neox-20b", 44, "64:64x96", "44xall", 17_732_599_808),
    ConfiguredModel("gpt-j-6b", 28, "16:16x256", "28xall", 7_426_965_504),
    ConfiguredModel("starcoder", 40, "48:1x128", "40xall", 334_131_200),
    ConfiguredModel("falcon-7b", 32, "71:1x64", "32xall", 135_708_672),
    ConfiguredModel("falcon-40b", 60, "128:8x64", "60xall", 2_035_630_080),
    ConfiguredModel("dbrx", 40, "48:8x128", "40xall", 2_673_049_600),
    ConfiguredModel("chatglm3-6b", 28, "32:2x128", "28xall", 467_783_680),
    ConfiguredModel("flan-t5-base", 12, "12:12x64", "12xall", 610_689_024),
    ConfiguredModel("command-r7b", 32, "32:8x128", "24x4096 8xall", 740_147_200),
    ConfiguredModel(
      "minimax-text-01",
      80,
      "64:8x128",
      "10xall",
      668_262_400,
      "7,15,23,31,39,47,55,63,71,79",
      [
        "0-6,8-14,16-22,24-30,32-38,40-46,48-54,56-62,64-70,72-78: linear attention: a state of fixed size, no keys and values"
      ]
    ),
    ConfiguredModel(
      "jamba-mini",
      32,
      "32:8x128",
      "4xall",
      267_304_960,
      "4,12,20,28",
      [
        "0-3,5-11,13-19,21-27,29-31: state space (mamba): a state of fixed size, no keys and values"
      ]
    ),
    ConfiguredModel(
      "granite-4-h-small",
      40,
      "32:8x128",
      "4xall",
      267_304_960,
      "5,15,25,35",
      [
        "0-4,6-14,16-24,26-34,36-39: state space (mamba): a state of fixed size, no keys and values"
      ]
    ),
    ConfiguredModel(
      "nemotron-h-8b",
      52,
      "32:8x128",
      "4xall",
      267_304_960,
      "7,18,29,40",
      [
        "0,2,4,6,9,11,13,15,17,20,22,24,26,28,31,33,35,37,39,42,44,46,48,50: state space (mamba): a state of fixed size, no keys and values",
        "1,3,5,8,10,12,14,16,19,21,23,25,27,30,32,34,36,38,41,43,45,47,49,51: no attention (mlp)",
      ]
    ),
    ConfiguredModel(
      "recurrentgemma-2b",
      26,
      "10:1x256",
      "8x2048",
      8_718_336,
      "2,5,8,11,14,17,20,23",
      [
        "0-1,3-4,6-7,9-10,12-13,15-16,18-19,21-22,24-25: state space (recurrent): a state of fixed size, no keys and values"
      ]
    ),
    ConfiguredModel(
      "lfm2-1.2b",
      16,
      "32:8x64",
      "6xall",
      203_563_008,
      "2,5,8,10,12,14",
      [
        "0-1,3-4,6-7,9,11,13,15: a short convolution: a state of fixed size"
      ]
    ),
    ConfiguredModel(
      "deci-49b",
      8,
      "64:8x128",
      "5xall",
      334_131_200,
      "0,2,5-7",
      [
        "1,4: no attention (mlp)",
        "3: 64 query heads and 4 KV heads of 128 channels, unlike most layers: a cache of its own",
      ]
    ),
  ]

  @Test("Every family's layers, heads and bytes", arguments: models)
  func families(model: ConfiguredModel) throws {
    let outline = try Self.outline(model.file)
    let shape = try outline.requireShape()
    #expect(outline.layers == model.layers)
    #expect("\(shape.queryHeads):\(shape.kvHeads)x\(shape.headDim)" == model.heads)
    #expect(shape.layers == outline.coveredLayers.count)
    #expect(Self.text(IndexSelection.ranges(of: outline.coveredLayers), outline) == model.covered)
    #expect(
      outline.uncovered.map { "\(Self.text($0.layers, outline)): \($0.reason)" } == model.uncovered
    )

    var counts: [String: Int] = [:]
    for window in shape.slidingWindows { counts[window.map(String.init) ?? "all", default: 0] += 1 }
    let windows = Set(counts.map { "\($0.value)x\($0.key)" })
    #expect(windows == Set(model.windows.split(separator: " ").map(String.init)))

    let plan = try Plan(policy: Policy(keys: .int8, values: .int8), shape: shape)
    let estimate = try plan.estimate(context: 32_768, chunk: 512, threads: 1)
    #expect(estimate.codes + estimate.scales == model.pageBytes)
    #expect(estimate.tables == 0)
  }

  @Test("Windows stand where the family has them")
  func places() throws {
    let gemma2 = try Self.outline("gemma-2-9b").requireShape().slidingWindows
    #expect(Array(gemma2[..<4]) == [4_096, nil, 4_096, nil])
    let gemma3 = try Self.outline("gemma-3-4b").requireShape().slidingWindows
    #expect(gemma3.indices.filter { gemma3[$0] == nil } == [5, 11, 17, 23, 29])
    let llama4 = try Self.outline("llama-4-scout").requireShape().slidingWindows
    #expect(Array(llama4[..<5]) == [8_192, 8_192, 8_192, nil, 8_192])
    let qwen2 = try Self.outline("qwen2-windows").requireShape().slidingWindows
    #expect(qwen2[20] == nil && qwen2[21] == 4_096)
    let neo = try Self.outline("gpt-neo-1.3b").requireShape().slidingWindows
    #expect(Array(neo[..<3]) == [nil, 256, nil])
    let command = try Self.outline("command-r7b").requireShape().slidingWindows
    #expect(Array(command[..<4]) == [4_096, 4_096, 4_096, nil])
  }

  @Test(
    "Models without a layer to cache say why, layer by layer",
    arguments: [
      (
        "deepseek-v3",
        ["layers all: latent attention: a vector of rank 512 in place of keys and values"]
      ),
      (
        "kimi-linear-48b",
        [
          "layers 0-2,4-6,8-10,12-14,16-18,20-22,24-25: linear attention: a state of fixed size, no keys and values",
          "layers 3,7,11,15,19,23,26: latent attention: a vector of rank 512 in place of keys and values",
        ]
      ),
      (
        "mamba-2.8b", ["layers all: state space (mamba): a state of fixed size, no keys and values"]
      ),
      (
        "open-llama-3b",
        ["layers all: 100 channels of a head, which is no multiple of 8 from 8 to 512"]
      ),
    ]
  )
  func withoutLayers(file: String, reasons: [String]) throws {
    let outline = try Self.outline(file)
    #expect(outline.shape == nil && outline.coveredLayers.isEmpty)
    let error = CheckpointError.noCoveredLayer(modelType: outline.modelType, reasons: reasons)
    #expect(throws: error) { try outline.requireShape() }
  }

  @Test("What the bytes leave out is noted")
  func notes() throws {
    #expect(try Self.outline("llama-3-8b").notes == [])
    #expect(try Self.outline("llama-4-scout").notes.first?.contains("window of 8192") == true)
    #expect(try Self.outline("flan-t5-base").notes.first?.contains("cross-attention") == true)
    let unknown = try Self.outline(of: ["model_type": "novel", "sliding_window": 512])
    #expect(unknown.notes.first?.contains("taken to be that of all layers") == true)
    #expect(unknown.shape?.slidingWindows == [512, 512, 512, 512])
    let typed = try Self.outline(of: ["layer_types": ["full_attention", "hybrid", "warp", "moe"]])
    #expect(typed.coveredLayers == [0, 1] && typed.notes.count == 1)
    #expect(
      typed.uncovered.map(\.reason) == ["layer type 'warp' is not known", "no attention (moe)"]
    )
  }

  @Test("Rows of other lengths are named")
  func otherRows() throws {
    let uneven = try Self.outline(of: ["head_dim": 192, "v_head_dim": 128])
    #expect(
      uneven.uncovered.first?.reason.hasPrefix("keys of 192 channels and values of 128") == true
    )
    let types = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    let mixed = try Self.outline(of: [
      "head_dim": 64, "global_head_dim": 128, "layer_types": types, "sliding_window": 256,
    ])
    #expect(mixed.coveredLayers == [0, 1, 2] && mixed.shape?.headDim == 64)
    #expect(mixed.uncovered.first?.reason.contains("of 128 channels") == true)
    let shared = try Self.outline(of: ["use_cla": true, "cla_share_factor": 2])
    #expect(shared.coveredLayers == [0, 2])
  }

  @Test("A file, its folder, and what is neither")
  func paths() throws {
    let file = try Fixtures.path("configurations/llama-3-8b.json")
    #expect(try ModelOutline(path: file).contextLength == 8_192)
    let folder = try Fixtures.directory("qwen3-bf16")
    #expect(try ModelOutline(path: folder.path).shape == folder.configuration().shape)
    #expect(throws: CheckpointError.self) { try ModelOutline(path: file + ".no") }
    #expect(throws: CheckpointError.self) { try ModelOutline(json: Data("[1]".utf8)) }
  }

  /// A key, and a value that cannot be.
  static let absurdities: [(String, String)] = [
    ("num_hidden_layers", "0"), ("num_hidden_layers", "null"), ("num_hidden_layers", "513"),
    ("num_attention_heads", "null"), ("num_attention_heads", "\"many\""),
    ("num_attention_heads", "8.5"),
    ("num_key_value_heads", "3"), ("num_key_value_heads", "[8, 8]"), ("num_key_value_heads", "0"),
    ("hidden_size", "null"), ("hidden_size", "1001"), ("head_dim", "-8"), ("head_dim", "1e9"),
    ("layer_types", "[\"full_attention\"]"), ("layer_types", "[1, 2, 3, 4]"),
    ("layer_types", "\"full\""),
    ("layer_types", "[\"sliding_attention\", \"full\", \"full\", \"full\"]"),
    ("sliding_window", "0"), ("sliding_window", "1e30"), ("sliding_window", "\"wide\""),
    ("use_sliding_window", "1"), ("kv_lora_rank", "-1"), ("num_kv_shared_layers", "5"),
    ("cross_attention_layers", "[4]"), ("cross_attention_layers", "[-1]"),
    ("attn_type_list", "[0, 2, 0, 1]"), ("hybrid_override_pattern", "\"M*\""),
    ("attention_types", "[[[\"global\"], 9223372036854775807]]"),
    ("attention_types", "[[[\"global\"], 2]]"),
    ("attn_layer_period", "0"), ("full_attn_idxs", "[7]"), ("full_attention_interval", "\"4\""),
    ("linear_attn_config", "{\"full_attn_layers\": [0]}"), ("block_configs", "[]"),
    ("attention_chunk_size", "-4"), ("model_type", "7"),
  ]

  @Test("Absurd values are typed errors that name the key", arguments: absurdities)
  func absurd(key: String, value: String) throws {
    var values = [
      "model_type": "\"novel\"", "hidden_size": "256", "num_hidden_layers": "4",
      "num_attention_heads": "8",
    ]
    values[key] = value
    let json = "{" + values.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
    let error = #expect(throws: CheckpointError.self) { try ModelOutline(json: Data(json.utf8)) }
    let named = key == "layer_types" && value.contains("sliding") ? "sliding_window" : key
    #expect(
      error?.description.contains(named == "linear_attn_config" ? "full_attn_layers" : named)
        == true
    )
  }

  private static func outline(_ file: String) throws -> ModelOutline {
    try ModelOutline(path: Fixtures.path("configurations/\(file).json"))
  }

  /// Four layers of eight heads of an unknown family, with other values beside.
  private static func outline(of values: [String: Any]) throws -> ModelOutline {
    let plain: [String: Any] = [
      "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8,
    ]
    return try ModelOutline(
      json: JSONSerialization.data(withJSONObject: plain.merging(values) { $1 })
    )
  }

  private static func text(_ ranges: [ClosedRange<Int>], _ outline: ModelOutline) -> String {
    IndexSelection.text(ranges, of: outline.layers)
  }
}
