import NibbleGenerate
import NibbleKV
import Synchronization
import Testing

@Suite("Generation that finds beginnings again")
struct PrefixGenerationTests {
  private let model = SmallModel()
  private let prompt = (0..<40).map { $0 % 11 }

  private func cache(prefixLimit: ByteBudget? = nil) throws -> KVCache {
    try KVCache(
      model: SmallModel().shape,
      policy: Policy(argument: "linear:4@page_tokens=16@recent=8"),
      prefixLimit: prefixLimit,
      threads: 1
    )
  }

  /// Tokens of a generation, and the lengths of the model's steps.
  private func run(
    _ prompt: [Int],
    _ place: KVCache,
    options: GenerationOptions = GenerationOptions(maximumTokens: 4, prefillChunk: 16)
  ) async throws -> (tokens: [GeneratedToken], steps: [Int]) {
    let before = model.steps.withLock { $0.count }
    var tokens: [GeneratedToken] = []
    let stream = generate(model: model, promptTokens: prompt, cache: place, options: options)
    for try await token in stream { tokens.append(token) }
    return (tokens, model.steps.withLock { $0[before...].map(\.count) })
  }

  @Test("Only the last token of a prompt that comes again is computed")
  func again() async throws {
    let cache = try cache()
    let first = try await run(prompt, cache)
    #expect(first.steps == [16, 16, 7, 1, 1, 1, 1])
    #expect(first.tokens.map(\.statistics.reusedTokens) == [0, 0, 0, 0])
    let second = try await run(prompt, cache)
    #expect(second.steps == [1, 1, 1, 1])
    #expect(second.tokens.map(\.id) == first.tokens.map(\.id))
    #expect(second.tokens.map(\.statistics.reusedTokens) == [39, 0, 0, 0])
    let held = { (tokens: [GeneratedToken]) in tokens.map(\.statistics.heldBytes) }
    #expect(held(second.tokens) == held(first.tokens))
    // The prompt, and the prompt with its answer but for the last token.
    let statistics = cache.statistics.prefixes
    #expect(statistics.sequences == 2)
    #expect(statistics.lookups == 2 && statistics.hits == 1 && statistics.reusedTokens == 39)
    #expect(cache.statistics.sequenceCount == 0)
  }

  @Test("A conversation's next turn computes what is new")
  func conversation() async throws {
    let cache = try cache()
    let answer = try await run(prompt, cache).tokens.map(\.id)
    let next = try await run(prompt + answer + [1, 2, 3], cache)
    // The answer's last token was never appended.
    #expect(next.tokens[0].statistics.reusedTokens == 43)
    #expect(next.steps == [3, 1, 1, 1, 1])
    let other = try await run(Array(prompt[..<30]) + [0, 0, 0], cache)
    #expect(other.tokens[0].statistics.reusedTokens == 30)
    #expect(other.steps == [2, 1, 1, 1, 1])
  }

  @Test("A prompt as text finds what the same tokens left")
  func text() async throws {
    let cache = try cache()
    let letters = "abcdefghijklabcdefghijkl"
    let tokenizer = SmallTokenizer()
    _ = try await run(tokenizer.encode(letters), cache)
    let stream = generate(
      model: model,
      tokenizer: tokenizer,
      prompt: letters,
      cache: cache,
      options: GenerationOptions(maximumTokens: 1)
    )
    for try await token in stream { #expect(token.statistics.reusedTokens == 23) }
  }

  @Test("A host's own store is neither looked up nor remembered, but knows its tokens")
  func stores() async throws {
    let cache = try cache()
    let unused = cache.statistics.prefixes
    let sequence = cache.makeSequence()
    let options = GenerationOptions(maximumTokens: 3)
    let stream = generate(model: model, promptTokens: prompt, store: sequence, options: options)
    var ids: [Int] = []
    for try await token in stream { ids.append(token.id) }
    #expect(cache.statistics.prefixes == unused)
    #expect(sequence.tokens == prompt + ids.dropLast())
    // Tokens behind some that nobody named are not known.
    let unnamed = cache.makeSequence()
    _ = try model.forward(tokens: [1, 2], store: unnamed, logits: .none)
    let more = generate(model: model, promptTokens: prompt, store: unnamed, options: options)
    for try await _ in more {}
    #expect(unnamed.tokens.isEmpty && unnamed.tokenCount == 44)
  }

  @Test("Without a limit of bytes every prompt is computed")
  func off() async throws {
    let cache = try cache(prefixLimit: .bytes(0))
    let first = try await run(prompt, cache)
    let second = try await run(prompt, cache)
    #expect(second.steps == first.steps)
    #expect(cache.statistics.pageCount == 0)
  }

  @Test("Whoever stops reading leaves the prompt behind; a failed prefill leaves nothing")
  func endings() async throws {
    let cache = try cache()
    for try await _ in generate(model: model, promptTokens: prompt, cache: cache) { break }
    #expect(cache.statistics.prefixes.sequences == 1)
    #expect(try cache.makeSequence(continuing: prompt).tokenCount == 39)
    let failing = SmallModel(failingStep: 1)
    let other = Array(prompt.reversed())
    let stream = generate(
      model: failing,
      promptTokens: other,
      cache: cache,
      options: GenerationOptions(prefillChunk: 16)
    )
    await #expect(throws: SmallModel.Failure.self) { for try await _ in stream {} }
    #expect(try cache.makeSequence(continuing: other).tokenCount == 0)
    #expect(cache.statistics.sequenceCount == 0)
  }

  @Test("A step that fails after a beginning was found harms nobody")
  func failureBehindABeginning() async throws {
    let cache = try cache()
    let first = try await run(prompt, cache)
    let failing = SmallModel(failingStep: 0)
    await #expect(throws: SmallModel.Failure.self) {
      for try await _ in generate(model: failing, promptTokens: prompt, cache: cache) {}
    }
    let second = try await run(prompt, cache)
    #expect(second.tokens.map(\.id) == first.tokens.map(\.id) && second.steps == [1, 1, 1, 1])
  }

  @Test("Ids that cannot be kept are refused before the model sees them")
  func wrongIds() async throws {
    let cache = try cache()
    await #expect(throws: KVError.self) { try await run([1, -2, 3], cache) }
    #expect(model.steps.withLock { $0.isEmpty })
  }
}
