/// Why something could not be measured.
public enum EvaluationError: Error, Hashable, Sendable {
  /// A file is missing or the system refused to read it.
  case unreadable(path: String, reason: String)
  /// A file does not hold what it should.
  case invalidFile(path: String, line: Int?, reason: String)
  /// No model was named, and the embedded one is not where it is looked for.
  case embeddedModelNotFound(searched: [String])
  /// A model without a tokenizer was given text.
  case tokenizerNeeded(model: String)
  /// There is nothing to measure.
  case nothingToMeasure(what: String)
  /// A token is not in the model's vocabulary.
  case tokenOutOfRange(token: Int, document: Int, vocabularySize: Int)
  /// A model returned a number of logits that is not its vocabulary.
  case wrongLogitCount(count: Int, expected: Int)
  /// A model returned a logit that is NaN or infinite.
  case nonFiniteLogit(policy: String, document: Int, position: Int)
  /// An option has a value outside its range.
  case invalidOption(name: String, value: String, expected: String)
  /// The system does not tell how much memory the process holds.
  case memoryUnknown(reason: String)
  /// A context does not fit the memory that is available, in bytes.
  case notEnoughMemory(context: Int, needed: Int, available: Int)
  /// A program that is called is not installed; Debian has it in the package.
  case programNotFound(name: String, package: String)
  /// A file could not be written.
  case unwritable(path: String, reason: String)
}

extension EvaluationError: CustomStringConvertible {
  /// One line for people.
  public var description: String {
    switch self {
    case .unreadable(let path, let reason):
      "cannot read \(path): \(reason)"
    case .invalidFile(let path, let line, let reason):
      line.map { "\(path):\($0): \(reason)" } ?? "\(path): \(reason)"
    case .embeddedModelNotFound(let searched):
      "the embedded model was not found; name a model with --model DIR or the environment variable "
        + "NIBBLE_MODEL (looked in \(searched.joined(separator: ", ")))"
    case .tokenizerNeeded(let model):
      "model '\(model)' has no tokenizer.json; give token ids instead of text (--tokens FILE)"
    case .nothingToMeasure(let what):
      what
    case .tokenOutOfRange(let token, let document, let vocabularySize):
      "token \(token) of document \(document) is not in the vocabulary of \(vocabularySize)"
    case .wrongLogitCount(let count, let expected):
      "the model returned \(count) logits where \(expected) were expected"
    case .nonFiniteLogit(let policy, let document, let position):
      "policy '\(policy)': a logit of document \(document), position \(position) is not finite"
    case .invalidOption(let name, let value, let expected):
      "\(name) cannot be \(value); expected \(expected)"
    case .memoryUnknown(let reason):
      "the memory of this process cannot be measured: \(reason)"
    case .notEnoughMemory(let context, let needed, let available):
      "a context of \(context) tokens needs \(needed) bytes with all policies, and \(available) are "
        + "available; give shorter contexts or fewer policies"
    case .programNotFound(let name, let package):
      "the program \(name) is not installed; on Debian and Ubuntu: apt-get install \(package)"
    case .unwritable(let path, let reason):
      "cannot write \(path): \(reason)"
    }
  }
}

/// Throws unless `value` lies in `range`.
func check<Value: Comparable>(
  _ name: String,
  _ value: Value,
  in range: ClosedRange<Value>
) throws(EvaluationError) {
  guard range.contains(value) else {
    throw .invalidOption(
      name: name,
      value: "\(value)",
      expected: "\(range.lowerBound) to \(range.upperBound)"
    )
  }
}
