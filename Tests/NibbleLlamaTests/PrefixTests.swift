import NibbleGenerate
import NibbleKV
import NibbleLlama
import Synchronization
import Testing

@Suite("Prompts that come again")
struct PrefixTests {
  /// A model that keeps all logits.
  private final class Recorder: DecoderModel {
    let model: LlamaModel
    let logits = Mutex<[[Float]]>([])

    init(_ model: LlamaModel) { self.model = model }

    var shape: ModelShape { model.shape }
    var vocabularySize: Int { model.vocabularySize }
    var name: String { model.name }

    func forward(
      tokens: [Int],
      store: some KeyValueStore,
      logits request: LogitsRequest
    ) throws -> [Float] {
      let result = try model.forward(tokens: tokens, store: store, logits: request)
      if request == .last { logits.withLock { $0.append(result) } }
      return result
    }
  }

  private func logits(
    _ prompt: [Int],
    _ cache: KVCache,
    _ model: LlamaModel,
    chunk: Int = 64,
    reusing reused: ClosedRange<Int>
  ) async throws -> [[Float]] {
    let recorder = Recorder(model)
    let options = GenerationOptions(maximumTokens: 60, ignoresEndTokens: true, prefillChunk: chunk)
    var count: Int?
    let stream = generate(model: recorder, promptTokens: prompt, cache: cache, options: options)
    for try await token in stream { count = count ?? token.statistics.reusedTokens }
    #expect(reused.contains(count ?? -1))
    return recorder.logits.withLock { $0 }
  }

  @Test(
    "The same logits bit for bit, through pages that are sealed on the way",
    arguments: ["balanced", "rotated:4@mean=removed@recent=20@page_tokens=16", "exact"]
  )
  func sameLogits(policy: String) async throws {
    let model = try LlamaModel(directory: Fixtures.harbour)
    let tokenizer = try ModelDirectory(path: Fixtures.harbour).tokenizer()
    let cache = try KVCache(model: model.shape, policy: Policy(argument: policy), threads: 2)
    let text = "The harbour was quiet when Ada put the silver key in the tiny chest. "
    let prompt = tokenizer.encode(String(repeating: text, count: 20))
    let whole = prompt.count - 1...prompt.count - 1
    let first = try await logits(prompt, cache, model, reusing: 0...0)
    let second = try await logits(prompt, cache, model, chunk: 7, reusing: whole)
    #expect(first.count == 60 && first == second)
    // And of a prompt that another one begins with, which may use the first one's answer, cut off.
    let longer = prompt + tokenizer.encode("The boat came back.")
    let cut = prompt.count - 1...longer.count - 1
    _ = try await logits(longer, cache, model, reusing: cut)
    #expect(try await logits(prompt, cache, model, reusing: whole) == first)
    #expect(cache.statistics.prefixes.hits == 3)
  }

  @Test("Exact rows give the same tokens wherever a beginning is cut")
  func exactCuts() async throws {
    let model = try LlamaModel(directory: Fixtures.harbour)
    let tokenizer = try ModelDirectory(path: Fixtures.harbour).tokenizer()
    let cache = try KVCache(model: model.shape, policy: .exact, threads: 2)
    let common = tokenizer.encode("Once there was a little boat that nobody wanted to sail. ")
    let prompts = ["Ada said", "The captain took", "It rained"].map {
      common + tokenizer.encode($0)
    }
    _ = try await logits(prompts[0], cache, model, reusing: 0...0)
    for prompt in prompts[1...] {
      let alone = try KVCache(model: model.shape, policy: .exact, threads: 2)
      let expected = try await logits(prompt, alone, model, reusing: 0...0)
      let found = try await logits(prompt, cache, model, reusing: common.count...common.count)
      let tops = { (rows: [[Float]]) in rows.map { row in row.indices.max { row[$0] < row[$1] } } }
      #expect(tops(found) == tops(expected))
    }
  }
}
