import Foundation
import NibbleKV
import Testing

@testable import NibbleLlama

@Suite("Model directories")
struct DirectoryTests {
  @Test(
    "An index may not leave the directory",
    arguments: [
      "../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "a\\b.safetensors",
      ".hidden.safetensors", "model.bin", "", "a\u{0}.safetensors",
    ]
  )
  func traversal(shard: String) throws {
    let directory = try TemporaryDirectory.copy(of: "llama-sharded-bf16")
    let index = ["weight_map": ["model.norm.weight": shard]]
    try directory.write(
      JSONSerialization.data(withJSONObject: index),
      to: "model.safetensors.index.json"
    )
    #expect(throws: CheckpointError.shardOutsideDirectory(name: shard)) {
      try LlamaModel(directory: directory.path)
    }
  }

  @Test("An index that names a missing shard or a tensor that a shard lacks")
  func brokenIndex() throws {
    let directory = try TemporaryDirectory.copy(of: "llama-sharded-bf16")
    let index = directory.path + "/model.safetensors.index.json"
    let text = try String(contentsOf: URL(fileURLWithPath: index), encoding: .utf8)
    let moved = text.replacingOccurrences(
      of: "\"model.norm.weight\": \"model-00003",
      with: "\"model.norm.weight\": \"model-00001"
    ).replacingOccurrences(
      of: "\"model.norm.weight\": \"model-00002",
      with: "\"model.norm.weight\": \"model-00001"
    )
    #expect(moved != text)
    try directory.write(moved, to: "model.safetensors.index.json")
    #expect(throws: CheckpointError.self) { try LlamaModel(directory: directory.path) }
    try directory.write(text, to: "model.safetensors.index.json")
    try FileManager.default.removeItem(
      atPath: directory.path + "/model-00002-of-00003.safetensors"
    )
    #expect(throws: CheckpointError.self) { try LlamaModel(directory: directory.path) }
    try directory.write("{\"weight_map\": 3}", to: "model.safetensors.index.json")
    #expect(throws: CheckpointError.self) { try LlamaModel(directory: directory.path) }
  }

  @Test("Tensors that the configuration asks for are missing or have another shape")
  func mismatch() throws {
    let changes: [([String: Any?], CheckpointError)] = [
      (
        ["num_hidden_layers": 4],
        .missingTensor(name: "model.layers.3.input_layernorm.weight")
      ),
      (
        ["vocab_size": 97],
        .wrongShape(
          tensor: "model.embed_tokens.weight",
          shape: [96, 32],
          expected: [97, 32]
        )
      ),
      (
        ["head_dim": 8],
        .wrongShape(
          tensor: "model.layers.0.self_attn.q_proj.weight",
          shape: [64, 32],
          expected: [32, 32]
        )
      ),
      (["tie_word_embeddings": false], .missingTensor(name: "lm_head.weight")),
      (
        ["attention_bias": true],
        .missingTensor(name: "model.layers.0.self_attn.q_proj.bias")
      ),
    ]
    for (change, error) in changes {
      let directory = try TemporaryDirectory.copy(of: "llama-tied-f32")
      try directory.editConfiguration(change)
      #expect(throws: error) { try LlamaModel(directory: directory.path) }
    }
  }

  @Test("Weights of another element type are refused")
  func elementType() throws {
    let directory = try TemporaryDirectory.copy(of: "qwen2-f16")
    let path = directory.path + "/model.safetensors"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    // The same number of bits, so only the type is wrong.
    while let range = bytes.range(of: Data("\"F16\"".utf8)) {
      bytes.replaceSubrange(range, with: Data("\"I16\"".utf8))
    }
    try directory.write(bytes, to: "model.safetensors")
    let error = #expect(throws: CheckpointError.self) {
      try LlamaModel(directory: directory.path)
    }
    #expect(error?.description.contains("I16") == true)
  }

  @Test("The embedded model loads with its tokenizer")
  func embedded() throws {
    let directory = ModelDirectory(path: Fixtures.harbour)
    #expect(directory.name == "harbour-3m")
    let configuration = try directory.configuration()
    #expect(configuration.shape.headDim == 64)
    #expect(configuration.tiesEmbeddings)
    let tokenizer = try directory.tokenizer()
    #expect(tokenizer.endTokens == [0])
    #expect(tokenizer.vocabularySize <= configuration.vocabularySize)
  }

  @Test("An empty directory names what is missing")
  func empty() throws {
    let directory = try TemporaryDirectory()
    let error = #expect(throws: CheckpointError.self) {
      try LlamaModel(directory: directory.path)
    }
    #expect(error?.description.contains("config.json") == true)
  }
}
