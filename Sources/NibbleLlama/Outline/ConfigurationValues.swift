/// The values of one object of a `config.json`, by any of the names that they go by; null counts as absent.
struct ConfigurationValues {
  let object: [String: JSONValue]
  /// The file, for messages.
  let file: String

  subscript(key: String) -> JSONValue? {
    let value = object[key]
    return value == .null ? nil : value
  }

  /// Whether the file says null, which is not the same as saying nothing.
  func isNull(_ key: String) -> Bool { object[key] == .null }

  /// The first of these keys that is there.
  func first(of keys: [String]) -> String? { keys.first { self[$0] != nil } }

  func values(_ key: String) -> ConfigurationValues? {
    guard case .object(let object)? = self[key] else { return nil }
    return ConfigurationValues(object: object, file: file)
  }

  func text(_ key: String) throws(CheckpointError) -> String? {
    guard let value = self[key] else { return nil }
    guard case .text(let text) = value else { throw wrong(key, "a text") }
    return text
  }

  func boolean(_ key: String) throws(CheckpointError) -> Bool? {
    guard let value = self[key] else { return nil }
    guard case .boolean(let boolean) = value else { throw wrong(key, "true or false") }
    return boolean
  }

  func integer(
    _ key: String,
    in range: ClosedRange<Int>
  ) throws(CheckpointError) -> Int? {
    guard let value = self[key] else { return nil }
    return try Self.integer(value, key, in: range, file: file)
  }

  func integer(
    firstOf keys: [String],
    in range: ClosedRange<Int>
  ) throws(CheckpointError) -> Int? {
    guard let key = first(of: keys) else { return nil }
    return try integer(key, in: range)
  }

  /// One number for each layer: a list of them, or one that all have.
  func integers(
    _ key: String,
    layers: Int,
    in range: ClosedRange<Int>
  ) throws(CheckpointError) -> [Int]? {
    guard let value = self[key] else { return nil }
    guard case .array = value else {
      return Array(repeating: try Self.integer(value, key, in: range, file: file), count: layers)
    }
    var integers: [Int] = []
    for item in try list(key, count: layers) ?? [] {
      integers.append(try Self.integer(item, key, in: range, file: file))
    }
    return integers
  }

  /// A list; with `count`, one value for each of so many layers.
  func list(_ key: String, count: Int? = nil) throws(CheckpointError) -> [JSONValue]? {
    guard let value = self[key] else { return nil }
    guard case .array(let items) = value else { throw wrong(key, "a list") }
    if let count, items.count != count { throw wrong(key, "one for each of \(count) layers") }
    return items
  }

  func texts(_ key: String, count: Int? = nil) throws(CheckpointError) -> [String]? {
    guard let items = try list(key, count: count) else { return nil }
    var texts: [String] = []
    for item in items {
      guard case .text(let text) = item else {
        throw .invalidValue(file: file, key: key, value: "\(item)", expected: "a list of texts")
      }
      texts.append(text)
    }
    return texts
  }

  /// Numbers of layers, each below `layers`.
  func indices(_ key: String, layers: Int, from first: Int = 0) throws(CheckpointError) -> Set<Int>?
  {
    guard let items = try list(key) else { return nil }
    var indices: Set<Int> = []
    for item in items {
      let range = first...(layers - 1 + first)
      indices.insert(try Self.integer(item, key, in: range, file: file) - first)
    }
    return indices
  }

  func missing(_ key: String, _ expected: String) -> CheckpointError {
    .invalidValue(file: file, key: key, value: "missing", expected: expected)
  }

  func wrong(_ key: String, _ expected: String) -> CheckpointError {
    .invalidValue(
      file: file,
      key: key,
      value: self[key].map { "\($0)" } ?? "missing",
      expected: expected
    )
  }

  private static func integer(
    _ value: JSONValue,
    _ key: String,
    in range: ClosedRange<Int>,
    file: String
  ) throws(CheckpointError) -> Int {
    guard case .integer(let integer) = value, range.contains(integer) else {
      let expected = "from \(range.lowerBound) to \(range.upperBound)"
      throw .invalidValue(file: file, key: key, value: "\(value)", expected: expected)
    }
    return integer
  }
}
