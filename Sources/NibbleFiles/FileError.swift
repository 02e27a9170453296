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
  /// The file is of another kind.
  case notOfKind(file: String, expected: String)
  /// The file was written in a version of its format that this library does not read.
  case unknownVersion(file: String, version: UInt64, known: UInt64)
  /// The file goes on behind what it says is its end.
  case longer(file: String, byteCount: UInt64, expected: UInt64)
  /// A number or text of the file is not possible there.
  case invalidField(file: String, field: String, offset: UInt64, found: String, expected: String)
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
    case .notOfKind(let file, let expected):
      "\(file) is not \(expected)"
    case .unknownVersion(let file, let version, let known):
      "\(file) has version \(version) of its format; this library reads version \(known)"
    case .longer(let file, let byteCount, let expected):
      "\(file) has \(byteCount) bytes where \(expected) belong to it"
    case .invalidField(let file, let field, let offset, let found, let expected):
      "\(file): \(field), at byte \(offset), is \(found); expected \(expected)"
    case .invalidJSON(let file, let reason), .wrongContent(let file, let reason):
      "\(file): \(reason)"
    case .invalidTensor(let file, let tensor, let reason):
      "\(file): tensor '\(tensor)': \(reason)"
    case .hole(let file, let offset, let next):
      "\(file): bytes \(offset)..<\(next) of the data belong to no tensor"
    }
  }
}
