public import NibbleCodec

extension Policy {
  /// Reads a policy as it is written on the command line: a preset, a file, or a short form.
  ///
  /// A short form is a codec for both sides (`rotated:4`) or one for each (`k=int8+v=linear:4`),
  /// then any number of `@key=value` with `sinks`, `recent`, `page_tokens`, `skip_below`, `exact_rows` or a codec
  /// option, which applies to both sides; `@k.key=value` and `@v.key=value` apply to one. A name with `/`, or that ends in `.yaml`, `.yml` or
  /// `.json`, is a file.
  ///
  /// - Parameters:
  ///   - argument: The text.
  ///   - catalogue: The codecs that may be named.
  /// - Throws: ``PolicyError`` with the nearest valid word.
  public init(
    argument: String,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) {
    if Self.namesFile(argument) {
      try self.init(contentsOf: argument, catalogue: catalogue)
    } else {
      self = try PolicyArgument(text: argument, customNames: catalogue.customNames).policy()
    }
  }

  /// Reads a comma-separated list of arguments.
  ///
  /// - Parameters:
  ///   - argument: The text; file names in it cannot hold commas.
  ///   - catalogue: The codecs that may be named.
  /// - Returns: The policies in the order of the text.
  /// - Throws: ``PolicyError`` for the first argument that is wrong.
  public static func list(
    argument: String,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) -> [Policy] {
    var policies: [Policy] = []
    for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
      policies.append(try Policy(argument: String(part), catalogue: catalogue))
    }
    return policies
  }

  private static func namesFile(_ argument: String) -> Bool {
    argument.contains("/") || [".yaml", ".yml", ".json"].contains { argument.hasSuffix($0) }
  }
}

/// The short form of a policy.
private struct PolicyArgument {
  var text: String
  var customNames: [String]

  func policy() throws(PolicyError) -> Policy {
    guard text.unicodeScalars.count <= Policy.nameLimit else {
      throw PolicyError(
        "a policy argument has \(text.count) characters; expected at most \(Policy.nameLimit)"
      )
    }
    let parts = text.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
    if let part = parts.dropFirst().first(where: { $0.contains("+") }) {
      throw error("options stand at the end, '@k.OPTION' for keys alone; '\(part)' holds a '+'")
    }
    let preset = Policy.presets.first { $0.name == parts[0] }
    var policy = if let preset { preset } else { try shortForm(parts[0]) }
    for part in parts.dropFirst() {
      try apply(part, to: &policy, isPreset: preset != nil)
    }
    policy.name = text
    return policy
  }

  private func shortForm(_ base: String) throws(PolicyError) -> Policy {
    guard !base.isEmpty else { throw error("no codec is named") }
    guard base.contains("=") || base.contains("+") else {
      let codec = try codec(base)
      return policy(keys: codec, values: codec)
    }
    var keys: CodecDescription?
    var values: CodecDescription?
    for part in base.split(separator: "+", omittingEmptySubsequences: false).map(String.init) {
      let (side, name) = try pair(part)
      switch side {
      case "k" where keys == nil, "keys" where keys == nil: keys = try codec(name)
      case "v" where values == nil, "values" where values == nil: values = try codec(name)
      case "k", "keys", "v", "values": throw error("'\(side)' is given twice")
      default: throw error("unknown side '\(side)'; expected k or v", hint: nearSide(side))
      }
    }
    guard let keys else { throw error("keys are missing", advice: "add 'k=CODEC'") }
    guard let values else { throw error("values are missing", advice: "add 'v=CODEC'") }
    return policy(keys: keys, values: values)
  }

  /// The exact rows of a policy that keeps all rows in one exact format are in that format too.
  private func policy(keys: CodecDescription, values: CodecDescription) -> Policy {
    let exact = keys == values && keys.isExactRows ? keys : .float16
    return Policy(keys: keys, values: values, exact: exact)
  }

  private func apply(
    _ part: String,
    to policy: inout Policy,
    isPreset: Bool
  ) throws(PolicyError) {
    let (key, value) = try pair(part)
    switch key {
    case "sinks":
      policy.sinks = try integer(key, value)
      try check(Policy.problem(key, policy.sinks, in: Policy.sinkRange))
    case "recent":
      policy.recent = try integer(key, value)
      try check(Policy.problem(key, policy.recent, in: Policy.recentRange))
    case "page_tokens":
      policy.pageTokens = try integer(key, value)
      try check(Policy.problem(pageTokens: policy.pageTokens))
    case "skip_below":
      guard let number = PolicyDocument.number(value) else {
        throw error("'\(key)' is '\(value)'; expected a number")
      }
      policy.skipBelow = number
      try check(Policy.problem(skipBelow: number))
    case "exact_rows":
      guard Policy.exactNames.contains(value) else {
        throw error(
          "'exact_rows' is '\(value)'; expected \(Policy.exactNames.joined(separator: ", "))",
          hint: nearest(value, among: Policy.exactNames)
        )
      }
      policy.exact = try codec(value)
    default:
      let sides: [KVSide] =
        key.hasPrefix("k.") ? [.keys] : key.hasPrefix("v.") ? [.values] : KVSide.allCases
      let option = sides.count == 1 ? String(key.dropFirst(2)) : key
      guard CodecDescription.optionNames.contains(option) else {
        let known =
          ["sinks", "recent", "page_tokens", "skip_below", "exact_rows"]
          + CodecDescription.optionNames
        throw error("unknown key '\(key)'", hint: nearest(option, among: known))
      }
      if isPreset { throw error("'\(key)' is a codec's option; a preset names its own codecs") }
      if sides.contains(.keys) { try set(option, to: value, of: &policy.keys) }
      if sides.contains(.values) { try set(option, to: value, of: &policy.values) }
    }
  }

  private func set(
    _ option: String,
    to value: String,
    of codec: inout CodecDescription
  ) throws(PolicyError) {
    do {
      try codec.set(option: option, to: value)
    } catch {
      throw PolicyError(error, about: "policy '\(text)': ", at: nil, of: nil)
    }
  }

  private func codec(_ name: String) throws(PolicyError) -> CodecDescription {
    do {
      return try CodecDescription(parsing: name, customNames: customNames)
    } catch {
      var error = PolicyError(error, about: "policy '\(text)': ", at: nil, of: nil)
      // A lone word may be a misspelt preset as well.
      if !name.contains(":"), name == text {
        let words = Policy.presetNames + CodecDescription.builtInNames + customNames
        error.hint = nearest(name, among: words)
      }
      throw error
    }
  }

  private func pair(_ part: String) throws(PolicyError) -> (key: String, value: String) {
    let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard halves.count == 2, !halves[0].isEmpty, !halves[1].isEmpty else {
      throw error("'\(part)' is no 'key=value'")
    }
    return (String(halves[0]), String(halves[1]))
  }

  private func integer(_ key: String, _ value: String) throws(PolicyError) -> Int {
    guard let number = Int(value) else {
      throw error("'\(key)' is '\(value)'; expected a whole number")
    }
    return number
  }

  private func check(_ problem: Policy.Problem?) throws(PolicyError) {
    if let problem { throw error(problem.message, hint: problem.hint, advice: problem.advice) }
  }

  private func nearSide(_ side: String) -> String? {
    nearest(side, among: ["keys", "values"])
  }

  private func error(
    _ message: String,
    hint: String? = nil,
    advice: String? = nil
  ) -> PolicyError {
    PolicyError("policy '\(text)': \(message)", hint: hint, advice: advice)
  }
}
