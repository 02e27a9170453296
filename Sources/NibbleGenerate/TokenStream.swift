import Synchronization

/// Tokens as they are generated.
///
/// The next token is computed when it is asked for, in the task that asks. Cancelling that task
/// throws `CancellationError` at the next step, between chunks of the prompt too. After an error the
/// stream has ended, and the store holds the steps that were completed.
public struct TokenStream: AsyncSequence, Sendable {
  /// What the stream delivers.
  public typealias Element = GeneratedToken

  private let request: GenerationRequest
  private let permit = ReadPermit()

  init(request: GenerationRequest) {
    self.request = request
  }

  /// Starts reading; a second reader gets ``GenerationError/alreadyRead``.
  public func makeAsyncIterator() -> AsyncIterator {
    AsyncIterator(generator: Generator(request: request), isFirst: permit.take())
  }

  /// Reads the rest of the stream.
  ///
  /// - Returns: The whole text.
  /// - Throws: What the stream throws.
  public func text() async throws -> String {
    var text = ""
    for try await token in self { text += token.text }
    return text
  }

  /// Computes one token after the other.
  public struct AsyncIterator: AsyncIteratorProtocol {
    private var generator: Generator
    private let isFirst: Bool

    fileprivate init(generator: Generator, isFirst: Bool) {
      self.generator = generator
      self.isFirst = isFirst
    }

    /// The next token, or nil after the last.
    ///
    /// - Throws: `CancellationError`, ``GenerationError``, or an error of the tokenizer, the model
    ///   or the store.
    public mutating func next() async throws -> GeneratedToken? {
      guard isFirst else { throw GenerationError.alreadyRead }
      return try generator.next()
    }
  }
}

/// Lets one reader in.
private final class ReadPermit: Sendable {
  private let isTaken = Mutex(false)

  func take() -> Bool {
    isTaken.withLock { isTaken in
      defer { isTaken = true }
      return !isTaken
    }
  }
}
