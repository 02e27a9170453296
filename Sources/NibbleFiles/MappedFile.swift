package import Foundation

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file's bytes, mapped read-only for as long as the object lives.
///
/// The system ends a process that reads a page of a file which somebody shortened after it was
/// mapped; nobody may write to a file that is in use.
package final class MappedFile: @unchecked Sendable {
  // Sendable: the bytes are never written.
  package let bytes: UnsafeRawBufferPointer
  /// The file's name without its directory, for messages.
  package let name: String

  package init(path: String) throws(FileError) {
    name = (path as NSString).lastPathComponent
    // A pipe under that name must not make us wait for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw Self.failure(path) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw Self.failure(path) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw .unreadable(path: path, reason: "not a file")
    }
    let byteCount = Int(status.st_size)
    guard byteCount > 0 else {
      // An empty mapping is an error of the system; an empty file is not.
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard
      let start = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0),
      start != MAP_FAILED
    else { throw Self.failure(path) }
    bytes = UnsafeRawBufferPointer(start: start, count: byteCount)
  }

  deinit {
    if let start = bytes.baseAddress {
      munmap(UnsafeMutableRawPointer(mutating: start), bytes.count)
    }
  }

  private static func failure(_ path: String) -> FileError {
    .unreadable(path: path, reason: lastReason())
  }
}

extension MappedFile {
  /// Reads a JSON file of a sensible length.
  package static func json<Value: Decodable>(
    _ type: Value.Type,
    path: String,
    limit: Int = 256 << 20
  ) throws(FileError) -> Value {
    let file = try MappedFile(path: path)
    guard file.bytes.count <= limit else {
      throw .tooLong(
        file: file.name,
        what: "JSON",
        byteCount: UInt64(file.bytes.count),
        limit: UInt64(limit)
      )
    }
    return try decodeJSON(type, from: Data(file.bytes), file: file.name)
  }
}

/// Decodes JSON and says in one line what is wrong with it.
package func decodeJSON<Value: Decodable>(
  _ type: Value.Type,
  from data: Data,
  file: String
) throws(FileError) -> Value {
  do {
    return try JSONDecoder().decode(type, from: data)
  } catch let error as DecodingError {
    throw .invalidJSON(file: file, reason: error.summary)
  } catch {
    throw .invalidJSON(file: file, reason: "not valid JSON")
  }
}

extension DecodingError {
  /// The place and the complaint.
  fileprivate var summary: String {
    let (context, missing): (Context, String?) =
      switch self {
      case .typeMismatch(_, let context), .valueNotFound(_, let context): (context, nil)
      case .keyNotFound(let key, let context): (context, key.stringValue)
      case .dataCorrupted(let context): (context, nil)
      @unknown default: (Context(codingPath: [], debugDescription: "not valid JSON"), nil)
      }
    let path = context.codingPath.map { $0.intValue.map { "[\($0)]" } ?? $0.stringValue }
    let place = path.isEmpty ? "" : "at \(path.joined(separator: ".")): "
    return place + (missing.map { "no '\($0)'" } ?? context.debugDescription)
  }
}
