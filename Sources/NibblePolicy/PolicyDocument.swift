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
    let start = SourceMark(line: 1, column: 1)
    guard yaml.utf8.count <= Policy.fileByteLimit else {
      throw PolicyError(Policy.tooLong(bytes: yaml.utf8.count), at: start, of: file)
    }
    if let place = yaml.firstPlace(of: "\u{0}") {
      throw PolicyError(
        "not text: there is a NUL byte",
        advice: "save the file as UTF-8 text",
        at: place,
        of: file
      )
    }
    // Some editors begin UTF-8 with a mark that says so.
    let yaml =
      yaml.unicodeScalars.first == "\u{FEFF}" ? String(yaml.unicodeScalars.dropFirst()) : yaml
    try checkAliases(in: yaml)
    do {
      if let root = try Parser(yaml: yaml, encoding: .utf8).singleRoot() { return root }
    } catch {
      throw syntaxError(error, in: yaml)
    }
    throw PolicyError(
      "the policy is empty",
      advice: "it begins with 'version: \(Policy.formatVersion)'",
      at: start,
      of: file
    )
  }

  /// The pairs of a mapping in the order in which they are written.
  func pairs(of node: Node, _ what: String) throws(PolicyError) -> [PolicyField] {
    guard case .mapping(let mapping) = node else {
      throw error(
        "\(what) is a mapping of keys and values, not \(kind(of: node))",
        advice: "write lines of 'key: value'",
        node
      )
    }
    var fields: [PolicyField] = []
    for (key, value) in mapping {
      guard case .scalar(let scalar) = key else {
        throw error(
          "a key of \(what) is a word, not \(kind(of: key))",
          advice: "write one word before the colon",
          key
        )
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
        advice: "the keys of \(what) are \(known.joined(separator: ", "))",
        field.key
      )
    }
  }

  /// A whole number in decimal digits.
  func integer(_ field: PolicyField) throws(PolicyError) -> Int {
    guard case .scalar(let scalar) = field.value, scalar.style == .plain else {
      throw wrongType(
        field,
        expected: "a whole number",
        advice: "write it in decimal digits, without quotes, point or exponent"
      )
    }
    let digits = scalar.string.utf8.drop { $0 == UInt8(ascii: "-") }
    let areDigits = !digits.isEmpty && digits.allSatisfy { (0x30...0x39).contains($0) }
    if areDigits, digits.count > 18 {
      throw wrongType(
        field,
        expected: "a whole number of at most 18 digits",
        advice: "no limit of a policy is that large"
      )
    }
    guard areDigits, let value = Int(scalar.string) else {
      throw wrongType(
        field,
        expected: "a whole number",
        advice: "write it in decimal digits, without quotes, point or exponent"
      )
    }
    return value
  }

  /// Refuses quotes around a value of one of these fields.
  func checkStyle(of field: PolicyField, among names: [String]) throws(PolicyError) {
    guard names.contains(field.name), case .scalar(let scalar) = field.value,
      scalar.style != .plain
    else { return }
    throw error(
      "'\(field.name)' is '\(scalar.string)' in quotes",
      advice: "leave the quotes out",
      field.value
    )
  }

  /// A number in decimal digits, with a point or an exponent.
  func number(_ field: PolicyField) throws(PolicyError) -> Double {
    guard case .scalar(let scalar) = field.value, scalar.style == .plain,
      let value = Self.number(scalar.string)
    else {
      throw wrongType(
        field,
        expected: "a number",
        advice: "write it in decimal digits, without quotes, such as 0.001"
      )
    }
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
    _ expected: String = "one word",
    advice: String? = nil
  ) throws(PolicyError) -> String {
    let advice = advice ?? "write one word behind '\(field.name):'"
    guard case .scalar(let scalar) = field.value else {
      throw wrongType(field, expected: expected, advice: advice)
    }
    let isEmpty = scalar.style == .plain && ["", "~", "null"].contains(scalar.string)
    if isEmpty { throw wrongType(field, expected: expected, advice: advice) }
    return scalar.string
  }

  func check(_ problem: Policy.Problem?, _ node: Node) throws(PolicyError) {
    if let problem { throw PolicyError(problem, at: mark(node), of: file) }
  }

  func mark(_ node: Node) -> SourceMark? {
    node.mark.map { SourceMark(line: $0.line, column: $0.column) }
  }

  func error(
    _ message: String,
    hint: String? = nil,
    advice: String? = nil,
    _ node: Node
  ) -> PolicyError {
    PolicyError(message, hint: hint, advice: advice, at: mark(node), of: file)
  }

  func missing(_ key: String, _ node: Node, _ what: String) -> PolicyError {
    error("missing key '\(key)'", advice: what, node)
  }

  func wrongType(_ field: PolicyField, expected: String, advice: String) -> PolicyError {
    let message = "'\(field.name)' is \(kind(of: field.value)); expected \(expected)"
    return error(message, advice: advice, field.value)
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
      let isDeep = problem.contains("nesting level")
      return PolicyError(
        isDeep ? "more than 1000 levels of nesting" : "not YAML: \(sentence(context, problem))",
        advice: isDeep ? "a policy needs few levels" : Self.advice(on: problem),
        at: SourceMark(line: mark.line, column: mark.column),
        of: file
      )
    case .composer(_, let problem, let mark, _):
      let isAlias = problem.contains("alias")
      return PolicyError(
        isAlias
          ? "not YAML: \(problem)"
          : "not one YAML document: \(problem.replacing("but ", with: ""))",
        advice: isAlias
          ? "an alias names an anchor that is complete before it"
          : "remove what follows '---', or write it to a file of its own",
        at: SourceMark(line: mark.line, column: mark.column),
        of: file
      )
    case .duplicatedKeysInMapping(let keys, let context):
      return PolicyError(
        "key '\(keys.first ?? "")' stands twice in one mapping, first here",
        advice: "remove one of them",
        at: SourceMark(line: context.mark.line, column: context.mark.column),
        of: file
      )
    case .reader(let problem, let offset, _, _):
      return PolicyError(
        "not text: \(problem)",
        advice: "save the file as UTF-8 text",
        at: place(of: offset ?? 0, in: yaml),
        of: file
      )
    default:
      return PolicyError("not YAML: \(error)", file: file)
    }
  }

  private func sentence(_ context: YamlError.Context?, _ problem: String) -> String {
    context.map { "\($0.text), \(problem)" } ?? problem
  }

  private static func advice(on problem: String) -> String {
    problem.contains("cannot start any token")
      ? "indent with spaces, and quote what begins with a sign"
      : "look for a missing bracket, quote, colon or space here or just before"
  }

  /// The place of the character at `offset`.
  private func place(of offset: Int, in yaml: String) -> SourceMark {
    SourceMark(behind: yaml.unicodeScalars.prefix(offset))
  }
}

extension SourceMark {
  /// The place behind some text.
  init(behind text: some Sequence<Unicode.Scalar>) {
    self.init(line: 1, column: 1)
    for scalar in text {
      column += 1
      if scalar == "\n" { self = SourceMark(line: line + 1, column: 1) }
    }
  }
}

extension String {
  fileprivate func firstPlace(of scalar: Unicode.Scalar) -> SourceMark? {
    guard let index = unicodeScalars.firstIndex(of: scalar) else { return nil }
    return SourceMark(behind: unicodeScalars[..<index])
  }
}
