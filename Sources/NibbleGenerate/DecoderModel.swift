public import NibbleKV

/// A decoder-only language model whose keys and values live in a `KeyValueStore`.
///
/// The model keeps no state of its own between calls: the store is the history.
public protocol DecoderModel: Sendable {
  /// Layers, heads and head dimension of the keys and values that the model writes.
  var shape: ModelShape { get }
  /// The number of logits per position; token ids are smaller than this.
  var vocabularySize: Int { get }
  /// A short name for people: a directory, a repository.
  var name: String { get }

  /// Appends the tokens' keys and values to `store` and computes logits.
  ///
  /// If it throws, the store holds the tokens that it held before.
  ///
  /// - Parameters:
  ///   - tokens: Token ids that follow those in the store.
  ///   - store: The history; it grows by `tokens.count` tokens.
  ///   - logits: For which of the tokens logits are wanted.
  /// - Returns: Logits, `[tokens.count, vocabularySize]` for `.all`, `[vocabularySize]` for
  ///   `.last`, empty for `.none`.
  /// - Throws: An error of the model or of the store.
  func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits: LogitsRequest
  ) throws -> [Float]
}

/// For which tokens of a step a model computes logits.
public enum LogitsRequest: Hashable, Sendable {
  /// For every token.
  case all
  /// For the last token only.
  case last
  /// For no token: the step only fills the store.
  case none
}
