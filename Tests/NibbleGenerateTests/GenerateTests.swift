import NibbleGenerate
import NibbleKV
import Synchronization
import Testing

@Suite("Generation")
struct GenerateTests {
  private func tokens(
    of model: SmallModel = SmallModel(),
    prompt: String = "a",
    store: (any KeyValueStore)? = nil,
    endTokens: Set<Int> = [],
    options: GenerationOptions
  ) async throws -> [GeneratedToken] {
    let stream = generate(
      model: model,
      tokenizer: SmallTokenizer(endTokens: endTokens),
      prompt: prompt,
      store: store ?? ReferenceCache(shape: model.shape),
      options: options
    )
    var tokens: [GeneratedToken] = []
    for try await token in stream { tokens.append(token) }
    return tokens
  }

  @Test("Greedy tokens, their statistics and the limit")
  func greedy() async throws {
    let tokens = try await tokens(prompt: "abc", options: GenerationOptions(maximumTokens: 4))
    #expect(tokens.map(\.id) == [3, 4, 5, 6])
    #expect(tokens.map(\.text) == ["d", "e", "f", "g"])
    #expect(tokens.map(\.statistics.cachedTokens) == [3, 4, 5, 6])
    #expect(tokens.map(\.finishReason) == [nil, nil, nil, .maximumTokens])
    #expect(tokens.allSatisfy { $0.statistics.bitsPerValue == 32 })
    #expect(tokens.map(\.statistics.heldBytes) == [3, 4, 5, 6].map { $0 * 2 * 2 * 8 * 4 })
    #expect(tokens.allSatisfy { $0.statistics.milliseconds > 0 })
  }

  @Test("The prompt is read in chunks, its last token by itself, with the only logits")
  func chunks() async throws {
    let model = SmallModel()
    _ = try await tokens(
      of: model,
      prompt: "abcdefgh",
      options: GenerationOptions(maximumTokens: 2, prefillChunk: 3)
    )
    model.steps.withLock { steps in
      #expect(steps.map(\.count) == [3, 3, 1, 1, 1])
      #expect(steps.map(\.logits) == [.none, .none, .none, .last, .last])
    }
  }

  @Test("A store that holds something is continued")
  func continuation() async throws {
    let store = ReferenceCache(shape: SmallModel().shape)
    let options = GenerationOptions(maximumTokens: 2)
    _ = try await tokens(prompt: "ab", store: store, options: options)
    #expect(store.tokenCount == 3)
    let more = try await tokens(prompt: "de", store: store, options: options)
    #expect(more.map(\.statistics.cachedTokens) == [5, 6])
  }

  @Test("Stop tokens end the text and are not part of it")
  func stopTokens() async throws {
    let options = GenerationOptions(maximumTokens: 9, stopTokens: [3])
    let stopped = try await tokens(options: options)
    #expect(stopped.map(\.id) == [1, 2, 3])
    #expect(stopped.map(\.text) == ["b", "c", ""])
    #expect(stopped.last?.finishReason == .stopToken(3))
    let ended = try await tokens(endTokens: [2], options: options)
    #expect(ended.last?.finishReason == .stopToken(2))
    let ignoring = GenerationOptions(maximumTokens: 4, ignoresEndTokens: true)
    #expect(try await tokens(endTokens: [2], options: ignoring).count == 4)
  }

  @Test(
    "Stop strings, also across tokens",
    arguments: [
      (["d"], "bc", 3), (["cde"], "b", 4), (["ef", "de"], "bc", 4), (["dx", "cdy"], "bcdef", 5),
      (["bcdefg"], "bcdef", 5), (["zb"], "bcdef", 5), (["bcdx", "cde"], "b", 4),
    ]
  )
  func stopStrings(strings: [String], text: String, count: Int) async throws {
    let options = GenerationOptions(maximumTokens: 5, stopStrings: strings)
    let tokens = try await tokens(options: options)
    #expect(tokens.map(\.text).joined() == text)
    #expect(tokens.count == count)
    let isStopped = text != "bcdef"
    let reason = try #require(tokens.last?.finishReason)
    #expect((reason == .maximumTokens) != isStopped)
  }

  @Test("Text waits while it may be part of a stop string, and no longer")
  func waiting() async throws {
    let options = GenerationOptions(maximumTokens: 5, stopStrings: ["cdx"])
    #expect(try await tokens(options: options).map(\.text) == ["b", "", "", "cde", "f"])
    let flushed = GenerationOptions(maximumTokens: 2, stopStrings: ["cdx"])
    #expect(try await tokens(options: flushed).map(\.text) == ["b", "c"])
    let ended = GenerationOptions(maximumTokens: 9, stopTokens: [4], stopStrings: ["cdx"])
    #expect(try await tokens(options: ended).map(\.text) == ["b", "", "", "cd"])
  }

  @Test("A character that spans tokens comes whole, an unfinished one as U+FFFD")
  func characters() async throws {
    let options = GenerationOptions(maximumTokens: 3)
    #expect(try await tokens(prompt: "k", options: options).map(\.text) == ["l", "", "é"])
    let cut = GenerationOptions(maximumTokens: 2)
    #expect(try await tokens(prompt: "k", options: cut).map(\.text) == ["l", "\u{FFFD}"])
    let stop = GenerationOptions(maximumTokens: 3, stopStrings: ["é"])
    #expect(try await tokens(prompt: "k", options: stop).map(\.text) == ["l", "", ""])
  }

  @Test("Tokens without a tokenizer")
  func withoutTokenizer() async throws {
    let model = SmallModel()
    let stream = generate(
      model: model,
      promptTokens: [4, 5],
      store: ReferenceCache(shape: model.shape),
      options: GenerationOptions(maximumTokens: 2)
    )
    var ids: [Int] = []
    for try await token in stream { ids.append(token.id) }
    #expect(ids == [6, 7])
  }

  @Test("A stream is read once")
  func once() async throws {
    let model = SmallModel()
    let stream = generate(
      model: model,
      tokenizer: SmallTokenizer(),
      prompt: "a",
      store: ReferenceCache(shape: model.shape),
      options: GenerationOptions(maximumTokens: 3)
    )
    #expect(try await stream.text() == "bcd")
    await #expect(throws: GenerationError.alreadyRead) { try await stream.text() }
  }

  @Test("What cannot be generated is a typed error, and the store stays empty")
  func refusals() async throws {
    let store = ReferenceCache(shape: SmallModel().shape)
    let options: [GenerationOptions] = [
      GenerationOptions(maximumTokens: 0), GenerationOptions(prefillChunk: 0),
      GenerationOptions(stopStrings: ["a", ""]),
      GenerationOptions(sampling: SamplingOptions(temperature: .nan)),
    ]
    for options in options {
      await #expect(throws: GenerationError.self) {
        try await tokens(store: store, options: options)
      }
    }
    await #expect(throws: GenerationError.emptyPrompt) {
      try await tokens(prompt: "", store: store, options: GenerationOptions())
    }
    #expect(store.tokenCount == 0)
    let other = ReferenceCache(shape: ModelShape(layers: 1, queryHeads: 1, kvHeads: 1, headDim: 8))
    await #expect(throws: GenerationError.self) {
      try await tokens(store: other, options: GenerationOptions())
    }
  }

  @Test("Logits that are not finite or of another number are typed errors")
  func logits() async throws {
    for value in [Float.nan, .infinity, -.infinity] {
      let model = SmallModel(logits: { row in row.dropLast() + [value] })
      await #expect(throws: GenerationError.nonFiniteLogit(token: 15, value: "\(value)")) {
        try await tokens(of: model, options: GenerationOptions())
      }
    }
    let short = SmallModel(logits: { $0.dropLast() })
    await #expect(throws: GenerationError.wrongLogitCount(count: 15, expected: 16)) {
      try await tokens(of: short, options: GenerationOptions())
    }
  }
}

@Suite("Generation that ends early")
struct CancellationTests {
  @Test("A step that fails between layers leaves the store as it was before")
  func failure() async throws {
    let model = SmallModel(failingStep: 3)
    let store = ReferenceCache(shape: model.shape)
    let stream = generate(
      model: model,
      tokenizer: SmallTokenizer(),
      prompt: "abc",
      store: store,
      options: GenerationOptions(maximumTokens: 9)
    )
    var iterator = stream.makeAsyncIterator()
    #expect(try await iterator.next()?.id == 3)
    #expect(try await iterator.next()?.id == 4)
    await #expect(throws: SmallModel.Failure.self) { try await iterator.next() }
    #expect(try await iterator.next() == nil)
    #expect(store.tokenCount == 4)
    // Layers that had the failed token would now disagree.
    _ = try SmallModel().forward(tokens: [5], store: store, logits: .last)
    #expect(store.tokenCount == 5)
  }

  @Test("Whoever stops reading leaves whole steps")
  func dropping() async throws {
    let model = SmallModel()
    let store = ReferenceCache(shape: model.shape)
    let stream = generate(
      model: model,
      tokenizer: SmallTokenizer(),
      prompt: "abc",
      store: store,
      options: GenerationOptions(maximumTokens: 9)
    )
    for try await token in stream where token.id == 5 { break }
    #expect(store.tokenCount == 5)
    #expect(model.steps.withLock { $0.count } == 4)
  }

  @Test("Cancelling the task ends the stream between steps", arguments: [0, 1, 2, 3, 5])
  func cancelling(step: Int) async throws {
    // The reading task cancels itself in the middle of a step; the step is completed.
    let model = SmallModel(beforeStep: { current in
      if current == step { withUnsafeCurrentTask { $0?.cancel() } }
    })
    let store = ReferenceCache(shape: model.shape)
    let reading = Task {
      var ids: [Int] = []
      let stream = generate(
        model: model,
        tokenizer: SmallTokenizer(),
        prompt: "abcdef",
        store: store,
        options: GenerationOptions(maximumTokens: 9, prefillChunk: 2)
      )
      for try await token in stream { ids.append(token.id) }
      return ids
    }
    await #expect(throws: CancellationError.self) { try await reading.value }
    #expect(store.tokenCount == [2, 4, 5, 6, 7, 8][step])
    #expect(model.steps.withLock { $0.count } == step + 1)
  }
}
