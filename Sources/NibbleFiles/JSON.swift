package import Foundation

/// Reads a JSON file of a sensible length.
///
/// - Throws: ``FileError`` if it cannot be read, is longer than `limit` bytes, or is not the JSON of such a value.
package func readJSON<Value: Decodable>(
  _ type: Value.Type,
  path: String,
  limit: Int = 256 << 20
) throws(FileError) -> Value {
  let (file, status) = try PageFile.input(path: path)
  guard status.byteCount <= limit else {
    throw .tooLong(
      file: file.name,
      what: "JSON",
      byteCount: UInt64(status.byteCount),
      limit: UInt64(limit)
    )
  }
  return try decodeJSON(type, from: Data(file.bytes(0..<status.byteCount)), file: file.name)
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
