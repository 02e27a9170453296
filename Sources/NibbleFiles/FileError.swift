/// Why a file could not be used.
public enum FileError: Error, Hashable, Sendable {
  /// The file is missing or the system refused to read it.
  case unreadable(path: String, reason: String)
  /// The system refused to write the file.
  case unwritable(path: String, reason: String)
  /// The file or its header is longer than is sensible.
  case tooLong(file: String, what: String, byteCount: UInt64, limit: UInt64)
  /// The file ends before what it promises.
  case truncated(file: String, byteCount: UInt64, needed: UInt64)
  /// The file is not the JSON that it should be.
  case invalidJSON(file: String, reason: String)
  /// A tensor's entry in a safetensors header contradicts itself or the file.
  case invalidTensor(file: String, tensor: String, reason: String)
  /// Bytes of a safetensors file belong to no tensor.
  case hole(file: String, offset: Int, next: Int)
  /// Bytes of the file are not those that were written.
  case damaged(file: String, what: String, offset: UInt64)
  /// The file lacks something, or holds what does not belong there.
  case wrongContent(file: String, reason: String)
}

extension FileError: CustomStringConvertible {
  /// A sentence for people.
  public var description: String {
    switch self {
    case .unreadable(let path, let reason):
      "cannot read \(path): \(reason)"
    case .unwritable(let path, let reason):
      "cannot write \(path): \(reason)"
    case .tooLong(let file, let what, let byteCount, let limit):
      "\(file): \(what) of \(byteCount) bytes; the limit is \(limit)"
    case .truncated(let file, let byteCount, let needed):
      "\(file) has \(byteCount) bytes where at least \(needed) are needed; is it truncated?"
    case .damaged(let file, let what, let offset):
      "\(file) is damaged: \(what) at byte \(offset)"
    case .invalidJSON(let file, let reason), .wrongContent(let file, let reason):
      "\(file): \(reason)"
    case .invalidTensor(let file, let tensor, let reason):
      "\(file): tensor '\(tensor)': \(reason)"
    case .hole(let file, let offset, let next):
      "\(file): bytes \(offset)..<\(next) of the data belong to no tensor"
    }
  }
}
