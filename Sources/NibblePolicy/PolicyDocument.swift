internal import NibbleCodec
internal import Yams

/// A key of a mapping with its value, and where both are written.
struct PolicyField {
  var name: String
  var key: Node
  var value: Node
}

/// Nodes of a YAML document as typed values, with errors that say where.
struct PolicyDocument {
  var file: String?

  /// The root of the only document in `yaml`.
  func root(of yaml: String) throws(PolicyError) -> Node {
    guard yaml.utf8.count <= Policy.fileByteLimit else {
      throw PolicyError(
        "the policy has \(yaml.utf8.count) bytes; expected at most \(Policy.fileByteLimit)",
        file: file
      )
    }
    do {
      if let root = try Parser(yaml: yaml, encoding: .utf8).singleRoot() { return root }
    } catch {
      throw syntaxError(error, in: yaml)
    }
    let start = SourceMark(line: 1, column: 1)
    throw PolicyError("the policy is empty; it begins with 'version: 1'", at: start, of: file)
  }

  /// The pairs of a mapping in the order in which they are written.
  func pairs(of node: Node, _ what: String) throws(PolicyError) -> [PolicyField] {
    guard case .mapping(let mapping) = node else {
      throw error("\(what) is a mapping of keys and values, not \(kind(of: node))", node)
    }
    var fields: [PolicyField] = []
    for (key, value) in mapping {
      guard case .scalar(let scalar) = key else {
        throw error("a key of \(what) is a word, not \(kind(of: key))", key)
      }
      fields.append(PolicyField(name: scalar.string, key: key, value: value))
    }
    return fields
  }

  /// Refuses keys that version 1 does not have.
  func check(
    keys fields: [PolicyField],
    among known: [String],
    in what: String
  ) throws(PolicyError) {
    for field in fields where !known.contains(field.name) {
      let longer = field.name.count > 2 ? known.first { $0.contains(field.name) } : nil
      throw error(
        "unknown key '\(field.name)' in \(what)",
        hint: nearest(field.name, among: known) ?? longer,
        field.key
      )
    }
  }

  /// A whole number in decimal digits.
  func integer(_ field: PolicyField) throws(PolicyError) -> Int {
    guard case .scalar(let scalar) = field.value, scalar.style == .plain else {
      throw wrongType(field, expected: "a whole number")
    }
    let digits = scalar.string.utf8.drop { $0 == UInt8(ascii: "-") }
    let areDigits = !digits.isEmpty && digits.allSatisfy { (0x30...0x39).contains($0) }
    guard areDigits, let value = Int(scalar.string) else {
      throw wrongType(field, expected: "a whole number")
    }
    return value
  }

  /// A number in decimal digits, with a point or an exponent.
  func number(_ field: PolicyField) throws(PolicyError) -> Double {
    guard case .scalar(let scalar) = field.value, scalar.style == .plain,
      let value = Self.number(scalar.string)
    else { throw wrongType(field, expected: "a number") }
    return value
  }

  /// Neither hexadecimal numbers nor words.
  static func number(_ text: String) -> Double? {
    let isDecimal = text.utf8.allSatisfy {
      (0x30...0x39).contains($0) || "+-.eE".utf8.contains($0)
    }
    guard isDecimal, let value = Double(text), value.isFinite else { return nil }
    return value
  }

  /// A scalar as it is written, but not an empty one.
  func text(
    _ field: PolicyField,
    _ expected: String = "one word"
  ) throws(PolicyError) -> String {
    guard case .scalar(let scalar) = field.value else {
      throw wrongType(field, expected: expected)
    }
    let isEmpty = scalar.style == .plain && ["", "~", "null"].contains(scalar.string)
    if isEmpty { throw wrongType(field, expected: expected) }
    return scalar.string
  }

  func check(_ problem: Policy.Problem?, _ node: Node) throws(PolicyError) {
    if let problem { throw error(problem.message, hint: problem.hint, node) }
  }

  func mark(_ node: Node) -> SourceMark? {
    node.mark.map { SourceMark(line: $0.line, column: $0.column) }
  }

  func error(_ message: String, hint: String? = nil, _ node: Node) -> PolicyError {
    PolicyError(message, hint: hint, at: mark(node), of: file)
  }

  func missing(_ key: String, _ node: Node, _ what: String) -> PolicyError {
    error("missing key '\(key)'; \(what)", node)
  }

  func wrongType(_ field: PolicyField, expected: String) -> PolicyError {
    error("'\(field.name)' is \(kind(of: field.value)); expected \(expected)", field.value)
  }

  private func kind(of node: Node) -> String {
    switch node {
    case .mapping: return "a mapping"
    case .sequence: return "a list"
    case .alias: return "an alias"
    case .scalar(let scalar):
      if scalar.style == .plain, ["", "~", "null"].contains(scalar.string) { return "empty" }
      return "'\(scalar.string.prefix(40))'"
    }
  }
}

// MARK: - Errors of the YAML parser

extension PolicyDocument {
  private func syntaxError(_ error: any Error, in yaml: String) -> PolicyError {
    switch error as? YamlError {
    case .scanner(let context, let problem, let mark, _),
      .parser(let context, let problem, let mark, _):
      let place = SourceMark(line: mark.line, column: mark.column)
      return PolicyError("not YAML: \(sentence(context, problem))", at: place, of: file)
    case .composer(_, let problem, let mark, _):
      let place = SourceMark(line: mark.line, column: mark.column)
      return PolicyError("not one YAML document: \(problem)", at: place, of: file)
    case .duplicatedKeysInMapping(let keys, let context):
      let place = SourceMark(line: context.mark.line, column: context.mark.column)
      let message = "key '\(keys.first ?? "")' stands twice in one mapping, first here"
      return PolicyError(message, at: place, of: file)
    case .reader(let problem, let offset, _, _):
      return PolicyError("not text: \(problem)", at: place(of: offset ?? 0, in: yaml), of: file)
    default:
      return PolicyError("not YAML: \(error)", file: file)
    }
  }

  private func sentence(_ context: YamlError.Context?, _ problem: String) -> String {
    context.map { "\($0.text), \(problem)" } ?? problem
  }

  /// The place of the character at `offset`.
  private func place(of offset: Int, in yaml: String) -> SourceMark {
    let before = yaml.prefix(offset)
    let lines = before.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    let last = lines.last?.unicodeScalars.count ?? 0
    return SourceMark(line: max(lines.count, 1), column: last + 1)
  }
}
