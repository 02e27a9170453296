/// Why a model directory could not be used.
public enum CheckpointError: Error, Hashable, Sendable {
  /// A file is missing or the system refused to read it.
  case unreadable(path: String, reason: String)
  /// A file or its header is longer than is sensible.
  case tooLong(file: String, what: String, byteCount: UInt64, limit: UInt64)
  /// A file ends before what it promises.
  case truncated(file: String, byteCount: UInt64, needed: UInt64)
  /// A file is not the JSON that it should be.
  case invalidJSON(file: String, reason: String)
  /// A tensor's entry in a safetensors header contradicts itself or the file.
  case invalidTensor(file: String, tensor: String, reason: String)
  /// Bytes of a safetensors file belong to no tensor.
  case hole(file: String, offset: Int, next: Int)
  /// The index names a file that is not a plain name inside the directory.
  case shardOutsideDirectory(name: String)
  /// The checkpoint lacks a tensor.
  case missingTensor(name: String)
  /// A tensor's shape is not what the configuration asks for.
  case wrongShape(tensor: String, shape: [Int], expected: [Int])
  /// A configuration value is missing or outside its range.
  case invalidValue(file: String, key: String, value: String, expected: String)
  /// The checkpoint needs something that this host does not have.
  case unsupported(what: String, value: String, supported: String)
  /// A tokenizer's parts contradict each other.
  case invalidTokenizer(file: String, reason: String)
  /// A token id is not in the vocabulary.
  case tokenOutOfRange(id: Int, vocabularySize: Int)
  /// The store has another shape than the model.
  case wrongStore(reason: String)
}

extension CheckpointError: CustomStringConvertible {
  /// A sentence for people.
  public var description: String {
    switch self {
    case .unreadable(let path, let reason):
      "cannot read \(path): \(reason)"
    case .tooLong(let file, let what, let byteCount, let limit):
      "\(file): \(what) of \(byteCount) bytes; the limit is \(limit)"
    case .truncated(let file, let byteCount, let needed):
      "\(file) has \(byteCount) bytes where at least \(needed) are needed; is it truncated?"
    case .invalidJSON(let file, let reason):
      "\(file): \(reason)"
    case .invalidTensor(let file, let tensor, let reason):
      "\(file): tensor '\(tensor)': \(reason)"
    case .hole(let file, let offset, let next):
      "\(file): bytes \(offset)..<\(next) of the data belong to no tensor"
    case .shardOutsideDirectory(let name):
      "the index names the file '\(name)', which is not a plain .safetensors file name"
    case .missingTensor(let name):
      "the checkpoint has no tensor '\(name)'"
    case .wrongShape(let tensor, let shape, let expected):
      "tensor '\(tensor)' has shape \(shape); the configuration asks for \(expected)"
    case .invalidValue(let file, let key, let value, let expected):
      "\(file): '\(key)' is \(value); expected \(expected)"
    case .unsupported(let what, let value, let supported):
      "\(what) '\(value)' is not supported; supported: \(supported)"
    case .invalidTokenizer(let file, let reason):
      "\(file): \(reason)"
    case .tokenOutOfRange(let id, let vocabularySize):
      "token \(id) is not in the vocabulary of \(vocabularySize)"
    case .wrongStore(let reason):
      reason
    }
  }
}
