/// Why text could not be generated.
public enum GenerationError: Error, Hashable, Sendable {
  /// An option has a value outside its range.
  case invalidOption(name: String, value: String, expected: String)
  /// There is nothing to continue: the prompt has no tokens.
  case emptyPrompt
  /// The model returned a number of logits that is not its vocabulary.
  case wrongLogitCount(count: Int, expected: Int)
  /// The model returned a logit that is NaN or infinite.
  case nonFiniteLogit(token: Int, value: String)
  /// The store's shape is not the model's.
  case wrongShape(store: String, model: String)
  /// A step failed, and the layers could not be taken back to where they were: the store must not be used further.
  case storeNotRestored(failure: String, cause: String)
  /// A stream can be read once, since reading it changes the store.
  case alreadyRead
}

extension GenerationError: CustomStringConvertible {
  /// A sentence for people.
  public var description: String {
    switch self {
    case .invalidOption(let name, let value, let expected):
      "option '\(name)' cannot be \(value); expected \(expected)"
    case .emptyPrompt:
      "the prompt has no tokens; give at least one"
    case .wrongLogitCount(let count, let expected):
      "the model returned \(count) logits where its vocabulary has \(expected)"
    case .nonFiniteLogit(let token, let value):
      "the logit of token \(token) is \(value)"
    case .wrongShape(let store, let model):
      "the store holds \(store), but the model writes \(model)"
    case .storeNotRestored(let failure, let cause):
      "\(failure); and the store could not be taken back to where it was: \(cause)"
    case .alreadyRead:
      "this token stream has been read; call generate again for another"
    }
  }
}
