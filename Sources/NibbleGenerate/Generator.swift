import NibbleKV

/// The steps of a generation, without any concurrency: one call, one token.
struct Generator {
  fileprivate enum State {
    case ready
    case running(Progress)
    case finished
  }

  /// What is carried from one token to the next.
  fileprivate struct Progress {
    let store: any KeyValueStore
    var sampler: Sampler
    var stopTokens: Set<Int>
    var assembler = TextAssembler()
    var filter: StopStringFilter
    var lastToken = 0
    var generatedTokens = 0
  }

  private let request: GenerationRequest
  private var state = State.ready

  init(request: GenerationRequest) {
    self.request = request
  }

  /// Computes the next token; nil after the last.
  mutating func next() throws -> GeneratedToken? {
    let start = ContinuousClock.now
    let current = state
    // Any error below ends the stream.
    state = .finished
    try Task.checkCancellation()
    var progress: Progress
    let logits: [Float]
    var reusedTokens = 0
    switch current {
    case .finished:
      return nil
    case .ready:
      let prompt = try promptTokens()
      progress = try begin(prompt)
      reusedTokens = self.reusedTokens(in: progress.store)
      logits = try prefill(prompt.dropFirst(reusedTokens), into: progress.store)
    case .running(let running):
      progress = running
      logits = try step([running.lastToken], logits: .last, store: running.store)
    }
    let id = try progress.sampler.sample(checked(logits))
    var token = progress.advance(id, request: request)
    token.statistics = statistics(of: progress.store, since: start)
    token.statistics.reusedTokens = reusedTokens
    if token.finishReason == nil {
      state = .running(progress)
    } else {
      remember(progress.store)
    }
    return token
  }

  private func promptTokens() throws -> [Int] {
    try request.options.validate()
    let store = request.place.shape
    let model = request.model.shape
    guard store.holds(model) else {
      throw GenerationError.wrongShape(store: store.summary, model: model.summary)
    }
    let tokens =
      switch request.prompt {
      case .tokens(let tokens): tokens
      case .text(let text): try request.tokenizer?.encode(text) ?? []
      }
    guard !tokens.isEmpty else { throw GenerationError.emptyPrompt }
    return tokens
  }

  private func begin(_ prompt: [Int]) throws -> Progress {
    let options = request.options
    let endTokens = options.ignoresEndTokens ? [] : request.tokenizer?.endTokens ?? []
    let store: any KeyValueStore =
      switch request.place {
      case .store(let store): store
      case .cache(let cache): try cache.makeSequence(continuing: prompt)
      }
    return Progress(
      store: store,
      sampler: try Sampler(options: options.sampling),
      stopTokens: options.stopTokens.union(endTokens),
      filter: StopStringFilter(stopStrings: options.stopStrings)
    )
  }

  /// Tokens of the prompt that a new sequence has from the start.
  private func reusedTokens(in store: any KeyValueStore) -> Int {
    switch request.place {
    case .store: 0
    case .cache: store.tokenCount
    }
  }

  /// Feeds the prompt in chunks, the last token by itself, and returns its logits.
  ///
  /// What the store holds before the last token is then what the same prompt finds when it comes again, and its last token sees
  /// what it saw the first time.
  private func prefill(_ tokens: ArraySlice<Int>, into store: any KeyValueStore) throws -> [Float] {
    var rest = tokens.dropLast()
    while !rest.isEmpty {
      let chunk = rest.prefix(request.options.prefillChunk)
      _ = try step(Array(chunk), logits: .none, store: store)
      rest = rest.dropFirst(chunk.count)
      try Task.checkCancellation()
    }
    remember(store)
    return try step(Array(tokens.suffix(1)), logits: .last, store: store)
  }

  private func remember(_ store: any KeyValueStore) {
    if case .cache(let cache) = request.place, let sequence = store as? KVSequence {
      cache.remember(sequence)
    }
  }

  /// Runs the model; if it fails halfway, takes the layers back to where they were.
  private func step(
    _ tokens: [Int],
    logits: LogitsRequest,
    store: any KeyValueStore
  ) throws -> [Float] {
    let result = try store.undoingOnFailure {
      try request.model.forward(tokens: tokens, store: store, logits: logits)
    }
    try store.record(tokens: tokens.span)
    return result
  }

  private func checked(_ logits: [Float]) throws(GenerationError) -> [Float] {
    let expected = request.model.vocabularySize
    guard logits.count == expected else {
      throw .wrongLogitCount(count: logits.count, expected: expected)
    }
    return logits
  }

  private func statistics(
    of store: any KeyValueStore,
    since start: ContinuousClock.Instant
  ) -> TokenStatistics {
    var statistics = TokenStatistics(store: store)
    statistics.milliseconds = (ContinuousClock.now - start) / .milliseconds(1)
    return statistics
  }
}

extension Generator.Progress {
  /// Takes a chosen token in: its text, and whether it is the last one.
  fileprivate mutating func advance(_ id: Int, request: GenerationRequest) -> GeneratedToken {
    lastToken = id
    generatedTokens += 1
    var text = ""
    var finishReason: FinishReason?
    if stopTokens.contains(id) {
      finishReason = .stopToken(id)
    } else {
      let outcome = filter.append(assembler.append(request.tokenizer?.bytes(of: id) ?? []))
      text = outcome.text
      finishReason = outcome.stopString.map(FinishReason.stopString)
    }
    if finishReason == nil, generatedTokens == request.options.maximumTokens {
      finishReason = .maximumTokens
    }
    switch finishReason {
    case nil, .stopString: break
    case .stopToken, .maximumTokens: text += flush()
    }
    return GeneratedToken(
      id: id,
      text: text,
      statistics: TokenStatistics(),
      finishReason: finishReason
    )
  }

  /// The text that waits: an unfinished character may complete a stop string too.
  private mutating func flush() -> String {
    let outcome = filter.append(assembler.finish())
    return outcome.text + filter.finish()
  }
}
