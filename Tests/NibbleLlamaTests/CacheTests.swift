import NibbleGenerate
import NibbleKV
import NibbleLlama
import Testing

@Suite("Generation with caches")
struct CacheTests {
  private static let prompt =
    "The harbour was quiet when Ada put the silver key in the tiny chest. "

  private func tokens(
    model: LlamaModel,
    store: any KeyValueStore,
    chunk: Int
  ) async throws -> [GeneratedToken] {
    let tokenizer = try ModelDirectory(path: Fixtures.harbour).tokenizer()
    let options = GenerationOptions(
      maximumTokens: 48,
      ignoresEndTokens: true,
      prefillChunk: chunk
    )
    let stream = generate(
      model: model,
      tokenizer: tokenizer,
      prompt: Self.prompt + Self.prompt,
      store: store,
      options: options
    )
    var tokens: [GeneratedToken] = []
    for try await token in stream { tokens.append(token) }
    return tokens
  }

  @Test("Policy exact gives the plain cache's greedy tokens", arguments: [7, 512])
  func exact(chunk: Int) async throws {
    let model = try LlamaModel(directory: Fixtures.harbour)
    let cache = try KVCache(model: model.shape, policy: .exact)
    let exact = try await tokens(model: model, store: cache.makeSequence(), chunk: chunk)
    let plain = try await tokens(
      model: model,
      store: ReferenceCache(shape: model.shape),
      chunk: chunk
    )
    #expect(exact.map(\.id) == plain.map(\.id))
    #expect(exact.allSatisfy { $0.statistics.compressedTokens == 0 })
  }

  @Test("A compressed cache says what it holds")
  func compressed() async throws {
    let model = try LlamaModel(directory: Fixtures.harbour)
    var policy = Policy.balanced
    policy.recent = 16
    policy.pageTokens = 16
    let cache = try KVCache(model: model.shape, policy: policy)
    let tokens = try await tokens(model: model, store: cache.makeSequence(), chunk: 16)
    let last = try #require(tokens.last?.statistics)
    #expect(last.compressedTokens > 16)
    #expect(last.bitsPerValue > 2 && last.bitsPerValue < 10)
    #expect(last.heldBytes > 0)
  }
}
