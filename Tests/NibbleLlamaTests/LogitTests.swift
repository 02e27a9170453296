import NibbleGenerate
import NibbleKV
import NibbleLlama
import Testing

@Suite("Logits equal transformers'")
struct LogitTests {
  /// The largest difference over the largest logit.
  static func relativeError(_ logits: some Collection<Float>, _ expected: some Collection<Float>)
    -> Float
  {
    guard logits.count == expected.count else { return .infinity }
    let difference = zip(logits, expected).map { abs($0 - $1) }.max() ?? .infinity
    return difference / (expected.map(abs).max() ?? 0)
  }

  @Test(
    "in one prefill",
    arguments: Fixtures.checkpoints,
    [WeightResidency.automatic, .packed]
  )
  func prefill(name: String, residency: WeightResidency) throws {
    let model = try LlamaModel(directory: Fixtures.directory(name), residency: residency)
    let (tokens, expected) = try Fixtures.expected(name)
    let store = ReferenceCache(shape: model.shape)
    let logits = try model.forward(tokens: tokens, store: store, logits: .all)
    #expect(store.tokenCount == tokens.count)
    #expect(Self.relativeError(logits, expected) < 1e-3)
  }

  @Test("token by token", arguments: Fixtures.checkpoints)
  func decode(name: String) throws {
    let model = try LlamaModel(directory: Fixtures.directory(name))
    let (tokens, expected) = try Fixtures.expected(name)
    let store = ReferenceCache(shape: model.shape)
    let logits = try tokens.flatMap {
      try model.forward(tokens: [$0], store: store, logits: .last)
    }
    #expect(Self.relativeError(logits, expected) < 1e-3)
  }

  @Test("in chunks, logits of the last token alone", arguments: Fixtures.checkpoints)
  func chunks(name: String) throws {
    let model = try LlamaModel(directory: Fixtures.directory(name))
    let (tokens, expected) = try Fixtures.expected(name)
    let store = ReferenceCache(shape: model.shape)
    #expect(try model.forward(tokens: Array(tokens[..<17]), store: store, logits: .none).isEmpty)
    let logits = try model.forward(tokens: Array(tokens[17...]), store: store, logits: .last)
    #expect(Self.relativeError(logits, expected.suffix(model.vocabularySize)) < 1e-3)
  }

  @Test("A window, a bias or a rope scaling that is left out shows")
  func sensitivity() throws {
    let changes: [(String, [String: Any?])] = [
      ("mistral-mixed", ["sliding_window": nil]),
      ("qwen2-f16", ["use_sliding_window": false]),
      ("llama-sharded-bf16", ["rope_scaling": nil]),
      ("llama-tied-f32", ["rope_parameters": ["rope_theta": 500.0]]),
    ]
    for (name, change) in changes {
      let directory = try TemporaryDirectory.copy(of: name)
      try directory.editConfiguration(change)
      let model = try LlamaModel(directory: directory.path)
      let (tokens, expected) = try Fixtures.expected(name)
      let logits = try model.forward(
        tokens: tokens,
        store: ReferenceCache(shape: model.shape),
        logits: .all
      )
      #expect(Self.relativeError(logits, expected) > 1e-3, "\(name)")
    }
  }

  @Test("Tokens outside the vocabulary and foreign stores are refused before anything changes")
  func refusals() throws {
    let model = try LlamaModel(directory: Fixtures.directory("llama-tied-f32"))
    let store = ReferenceCache(shape: model.shape)
    for id in [-1, 96, Int.max] {
      let error = CheckpointError.tokenOutOfRange(id: id, vocabularySize: 96)
      #expect(throws: error) {
        try model.forward(tokens: [1, id], store: store, logits: .last)
      }
    }
    #expect(store.tokenCount == 0)
    #expect(try model.forward(tokens: [], store: store, logits: .all).isEmpty)
    var shape = model.shape
    shape.layers = 2
    #expect(throws: CheckpointError.self) {
      try model.forward(tokens: [1], store: ReferenceCache(shape: shape), logits: .last)
    }
  }
}
