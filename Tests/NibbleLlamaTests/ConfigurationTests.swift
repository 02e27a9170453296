import Foundation
import NibbleKV
import Testing

@testable import NibbleLlama

@Suite("Model configurations")
struct ConfigurationTests {
  /// A valid configuration with some values changed; nil removes a key.
  private func configuration(_ changes: [String: Any?] = [:]) throws -> ModelConfiguration {
    var values: [String: Any] = [
      "model_type": "llama", "vocab_size": 1_000, "hidden_size": 256, "intermediate_size": 512,
      "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2,
      "max_position_embeddings": 4_096, "rms_norm_eps": 1e-5,
    ]
    for (key, value) in changes { values[key] = value }
    return try ModelConfiguration(json: JSONSerialization.data(withJSONObject: values))
  }

  @Test("Values, and those that are derived")
  func values() throws {
    let plain = try configuration()
    #expect(plain.shape == ModelShape(layers: 4, queryHeads: 8, kvHeads: 2, headDim: 32))
    #expect(plain.rotary == RotaryConfiguration(base: 10_000, scaling: .none))
    #expect(!plain.tiesEmbeddings && !plain.hasAttentionBias)
    #expect(try configuration(["head_dim": 128]).shape.headDim == 128)
    #expect(try configuration(["head_dim": NSNull()]).shape.headDim == 32)
    #expect(try configuration(["num_key_value_heads": nil]).shape.kvHeads == 8)
    let qwen3 = try configuration(["model_type": "qwen3"])
    #expect(qwen3.shape.headDim == 128 && qwen3.normalizesHeads)
    let qwen2 = try configuration(["model_type": "qwen2"])
    #expect(qwen2.hasAttentionBias && !qwen2.hasOutputBias)
  }

  @Test("Sliding windows")
  func windows() throws {
    let mistral = try configuration(["model_type": "mistral", "sliding_window": 100])
    #expect(mistral.shape.slidingWindows == [100, 100, 100, 100])
    let full = try configuration(["model_type": "mistral", "sliding_window": NSNull()])
    #expect(full.shape.slidingWindows == [nil, nil, nil, nil])
    let absent = try configuration(["model_type": "mistral"])
    #expect(absent.shape.slidingWindows == [4_096, 4_096, 4_096, 4_096])
    let qwen: [String: Any?] = ["model_type": "qwen2", "sliding_window": 64]
    #expect(try configuration(qwen).shape.slidingWindows == [nil, nil, nil, nil])
    let on = qwen.merging(["use_sliding_window": true, "max_window_layers": 3]) { $1 }
    #expect(try configuration(on).shape.slidingWindows == [nil, nil, nil, 64])
    let types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    let typed = on.merging(["layer_types": types]) { $1 }
    #expect(try configuration(typed).shape.slidingWindows == [64, nil, nil, 64])
  }

  @Test("Rope parameters of older and newer files")
  func rotary() throws {
    let llama3: [String: Any] = [
      "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8_192,
    ]
    let older = llama3.merging(["rope_type": "llama3"]) { $1 }
    let newer = older.merging(["rope_theta": 500_000.0]) { $1 }
    let expected = RotaryConfiguration(
      base: 500_000,
      scaling: .llama3(factor: 8, lowFactor: 1, highFactor: 4, originalContext: 8_192)
    )
    #expect(
      try configuration(["rope_theta": 500_000, "rope_scaling": older]).rotary == expected
    )
    #expect(try configuration(["rope_parameters": newer]).rotary == expected)
    let linear = try configuration(["rope_scaling": ["type": "linear", "factor": 4]])
    #expect(linear.rotary.scaling == .linear(factor: 4))
    for type in ["yarn", "dynamic", "longrope", "mrope"] {
      let error = CheckpointError.unsupported(
        what: "rope scaling",
        value: type,
        supported: "default, linear, llama3"
      )
      #expect(throws: error) {
        try configuration(["rope_scaling": ["rope_type": type, "factor": 4]])
      }
    }
  }

  @Test("llama3 scaling keeps high frequencies, divides low ones, and ramps between")
  func frequencies() {
    let scaling = RotaryConfiguration.Scaling.llama3(
      factor: 8,
      lowFactor: 1,
      highFactor: 4,
      originalContext: 8_192
    )
    let plain = RotaryEmbedding(
      configuration: RotaryConfiguration(base: 500_000, scaling: .none),
      headDim: 128
    ).frequencies
    let scaled = RotaryEmbedding(
      configuration: RotaryConfiguration(base: 500_000, scaling: scaling),
      headDim: 128
    ).frequencies
    #expect(scaled[0] == 1 && scaled[0] == plain[0])
    #expect(abs(scaled[63] * 8 / plain[63] - 1) < 1e-6)
    #expect(scaled.indices.contains { plain[$0] / 8 < scaled[$0] && scaled[$0] < plain[$0] })
    #expect(zip(scaled, scaled.dropFirst()).allSatisfy(>))
  }

  /// A key, and a value that cannot be.
  static let absurdities: [(String, String)] = [
    ("num_attention_heads", "0"), ("num_attention_heads", "-8"),
    ("num_attention_heads", "9223372036854775807"), ("num_key_value_heads", "3"),
    ("num_key_value_heads", "0"), ("num_key_value_heads", "16"), ("head_dim", "7"),
    ("head_dim", "0"), ("head_dim", "-8"), ("head_dim", "1024"),
    ("num_hidden_layers", "1000000000"), ("num_hidden_layers", "0"), ("num_hidden_layers", "1e99"),
    ("num_hidden_layers", "\"four\""), ("hidden_size", "0"), ("hidden_size", "255"),
    ("hidden_size", "4611686018427387904"), ("intermediate_size", "-1"), ("vocab_size", "0"),
    ("vocab_size", "1000000000000"), ("rms_norm_eps", "0"), ("rms_norm_eps", "-1"),
    ("rms_norm_eps", "1e400"), ("rope_theta", "0"), ("rope_theta", "-10000"),
    ("rope_scaling", "{\"type\":\"linear\",\"factor\":0}"),
    ("rope_scaling", "{\"type\":\"linear\"}"),
    ("rope_scaling", "{\"rope_type\":\"llama3\",\"factor\":8}"),
    ("rope_scaling", "\"linear\""), ("partial_rotary_factor", "0.5"),
    ("rope_parameters", "{\"full_attention\":{\"rope_theta\":1}}"),
    ("hidden_act", "\"gelu\""), ("model_type", "\"gpt2\""), ("model_type", "null"),
  ]

  @Test("Absurd values are typed errors", arguments: absurdities)
  func absurd(key: String, value: String) throws {
    var values = [
      "model_type": "\"llama\"", "vocab_size": "1000", "hidden_size": "256",
      "intermediate_size": "512", "num_hidden_layers": "4", "num_attention_heads": "8",
      "num_key_value_heads": "2",
    ]
    values[key] = value
    let json = "{" + values.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
    #expect(throws: CheckpointError.self) { try ModelConfiguration(json: Data(json.utf8)) }
  }

  @Test("Missing values are named")
  func missing() throws {
    for key in ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"] {
      let error = #expect(throws: CheckpointError.self) { try configuration([key: nil]) }
      #expect(error?.description.contains(key) == true)
    }
    #expect(throws: CheckpointError.self) { try ModelConfiguration(json: Data("{".utf8)) }
    #expect(throws: CheckpointError.self) { try ModelConfiguration(json: Data("[]".utf8)) }
    #expect(throws: CheckpointError.self) { try ModelConfiguration(json: Data()) }
  }
}
