public import NibbleFiles

/// Why a model directory could not be used.
public enum CheckpointError: Error, Hashable, Sendable {
  /// A file could not be read, or is not what it should be.
  case file(FileError)
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
  /// No layer of the model has keys and values that a cache can hold.
  case noCoveredLayer(modelType: String, reasons: [String])
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
    case .file(let error):
      error.description
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
    case .noCoveredLayer(let modelType, let reasons):
      "no layer of the model type '\(modelType)' can be cached: \(reasons.joined(separator: "; "))"
    case .invalidTokenizer(let file, let reason):
      "\(file): \(reason)"
    case .tokenOutOfRange(let id, let vocabularySize):
      "token \(id) is not in the vocabulary of \(vocabularySize)"
    case .wrongStore(let reason):
      reason
    }
  }
}

/// Turns the errors of files into those of checkpoints.
func reading<Result>(
  _ body: () throws(FileError) -> Result
) throws(CheckpointError) -> Result {
  do {
    return try body()
  } catch {
    throw .file(error)
  }
}
