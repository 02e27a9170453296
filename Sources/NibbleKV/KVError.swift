public import NibbleCodec
public import NibbleFiles
public import NibblePolicy

/// Why the cache refused.
///
/// Whatever is thrown, the sequences hold the tokens that they held before.
public enum KVError: Error, Sendable {
  /// The layer does not exist.
  case layerOutOfRange(layer: Int, layers: Int)
  /// A buffer's length does not fit its shape.
  case wrongLength(what: String, count: Int, expected: String)
  /// Keys and values have different lengths.
  case unequalLengths(keys: Int, values: Int)
  /// A row holds a value that is not finite, or that the layer's codecs cannot hold.
  case valueOutOfRange(
    what: String,
    layer: Int,
    token: Int,
    head: Int,
    channel: Int,
    value: Float,
    limit: Float
  )
  /// Scores of a query and the keys that it sees are beyond a float's range.
  case scoresOutOfRange(layer: Int, token: Int, queryHead: Int)
  /// Queries were given for more tokens than the layer holds.
  case tooManyQueries(queries: Int, tokens: Int)
  /// A scale, window or cap is not possible.
  case invalidOption(name: String, value: String, expected: String)
  /// The position does not exist.
  case positionOutOfRange(position: Int, tokens: Int)
  /// Positions of a layer with a sliding window are needed that were dropped behind it.
  case positionDropped(layer: Int, position: Int, firstHeld: Int)
  /// The budget would be exceeded.
  case budgetExceeded(neededBytes: Int, heldBytes: Int, limitBytes: Int)
  /// The disk tier's limit would be exceeded.
  case diskBudgetExceeded(neededBytes: Int, heldBytes: Int, limitBytes: Int)
  /// The system has no more memory.
  case outOfMemory(bytes: Int)
  /// The policy does not fit the model.
  case policy(PolicyError)
  /// A codec failed.
  case codec(CodecError)
  /// A session was saved with another model.
  case otherModel(file: String, field: String, found: String, expected: String)
  /// A session was saved under another plan.
  case otherPlan(file: String, field: String, found: String, expected: String)
  /// A file could not be used.
  case file(FileError)
}

extension KVError: CustomStringConvertible {
  /// What is wrong, with the value and the limit.
  public var description: String {
    switch self {
    case .layerOutOfRange(let layer, let layers):
      "layer \(layer) does not exist; the model has layers 0 to \(layers - 1)"
    case .wrongLength(let what, let count, let expected):
      "\(what): \(count) values where \(expected) are needed"
    case .unequalLengths(let keys, let values):
      "\(keys) key values but \(values) value values; both must have the same shape"
    case .valueOutOfRange(
      let what,
      let layer,
      let token,
      let head,
      let channel,
      let value,
      let limit
    ):
      "\(what) of layer \(layer), new token \(token), head \(head), channel \(channel) is \(value); "
        + "finite values up to ±\(limit) can be held"
        + (limit == CodecDescription.float16.magnitudeLimit ? "; float32 rows hold more" : "")
    case .scoresOutOfRange(let layer, let token, let head):
      "the scores of layer \(layer), query token \(token), query head \(head) are beyond "
        + "±\(Float.greatestFiniteMagnitude)"
    case .tooManyQueries(let queries, let tokens):
      "queries of \(queries) tokens, but the layer holds \(tokens)"
    case .invalidOption(let name, let value, let expected):
      "\(name) cannot be \(value); expected \(expected)"
    case .positionOutOfRange(let position, let tokens):
      "position \(position) does not exist; the sequence has \(tokens) tokens"
    case .positionDropped(let layer, let position, let firstHeld):
      "layer \(layer) has dropped position \(position) behind its sliding window; "
        + "it holds positions from \(firstHeld) on"
    case .budgetExceeded(let needed, let held, let limit):
      "\(needed) more bytes are needed, but \(held) of the budget of \(limit) bytes are held"
    case .diskBudgetExceeded(let needed, let held, let limit):
      "\(needed) more bytes are to be stored, but \(held) of the disk tier's \(limit) are in use"
    case .outOfMemory(let bytes):
      "the system refused \(bytes) bytes"
    case .policy(let error): "\(error)"
    case .codec(let error): "\(error)"
    case .otherModel(let file, let field, let found, let expected):
      "\(file) was saved with another model: \(field) is \(found); this cache has \(expected)"
    case .otherPlan(let file, let field, let found, let expected):
      "\(file) was saved under another policy: \(field) is \(found); this cache has \(expected)"
    case .file(let error): "\(error)"
    }
  }
}
