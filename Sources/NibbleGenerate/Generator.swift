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
    switch current {
    case .finished:
      return nil
    case .ready:
      progress = try begin()
      logits = try prefill()
    case .running(let running):
      progress = running
      logits = try step([running.lastToken], logits: .last)
    }
    let id = try progress.sampler.sample(checked(logits))
    var token = progress.advance(id, request: request)
    token.statistics = statistics(since: start)
    state = token.finishReason == nil ? .running(progress) : .finished
    return token
  }

  private func begin() throws -> Progress {
    let options = request.options
    try options.validate()
    let store = request.store.shape
    let model = request.model.shape
    guard store.holds(model) else {
      throw GenerationError.wrongShape(store: store.summary, model: model.summary)
    }
    let endTokens = options.ignoresEndTokens ? [] : request.tokenizer?.endTokens ?? []
    return Progress(
      sampler: try Sampler(options: options.sampling),
      stopTokens: options.stopTokens.union(endTokens),
      filter: StopStringFilter(stopStrings: options.stopStrings)
    )
  }

  /// Feeds the prompt in chunks and returns the logits of its last token.
  private func prefill() throws -> [Float] {
    let tokens =
      switch request.prompt {
      case .tokens(let tokens): tokens
      case .text(let text): try request.tokenizer?.encode(text) ?? []
      }
    guard !tokens.isEmpty else { throw GenerationError.emptyPrompt }
    let chunk = request.options.prefillChunk
    var first = 0
    while tokens.count - first > chunk {
      _ = try step(Array(tokens[first..<first + chunk]), logits: .none)
      first += chunk
      try Task.checkCancellation()
    }
    return try step(Array(tokens[first...]), logits: .last)
  }

  /// Runs the model; if it fails halfway, takes the layers back to where they were.
  private func step(_ tokens: [Int], logits: LogitsRequest) throws -> [Float] {
    let store = request.store
    return try store.undoingOnFailure {
      try request.model.forward(tokens: tokens, store: store, logits: logits)
    }
  }

  private func checked(_ logits: [Float]) throws(GenerationError) -> [Float] {
    let expected = request.model.vocabularySize
    guard logits.count == expected else {
      throw .wrongLogitCount(count: logits.count, expected: expected)
    }
    return logits
  }

  private func statistics(since start: ContinuousClock.Instant) -> TokenStatistics {
    var statistics = TokenStatistics(store: request.store)
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
