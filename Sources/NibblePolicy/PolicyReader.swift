internal import NibbleCodec
internal import Yams

/// Reads a policy of version 1 from YAML (and so from JSON).
///
/// Every value keeps the place where it is written, for errors that only a model shape brings up.
struct PolicyReader {
  var document: PolicyDocument
  var customNames: [String]

  init(file: String?, catalogue: CodecCatalogue) {
    document = PolicyDocument(file: file)
    customNames = catalogue.customNames
  }

  func policy(from yaml: String) throws(PolicyError) -> Policy {
    let root = try document.root(of: yaml)
    let fields = try document.pairs(of: root, "a policy")
    try checkVersion(of: fields, root)
    try document.check(keys: fields, among: Self.keys, in: "a policy")

    guard let keys = fields.first(where: { $0.name == "keys" }) else {
      throw document.missing("keys", root, "add a line such as 'keys: rotated:4'")
    }
    guard let values = fields.first(where: { $0.name == "values" }) else {
      throw document.missing("values", root, "add a line such as 'values: rotated:4'")
    }
    var policy = Policy(keys: try codec(keys), values: try codec(values))
    policy.marks = SourceMarks(file: document.file)
    for field in fields {
      policy.marks[field.name] = document.mark(field.value)
      try read(field, into: &policy)
    }
    try policy.validateAges()
    return policy
  }

  private static let keys = [
    "version", "name", "page_tokens", "sinks", "recent", "skip_below", "exact_rows", "keys",
    "values", "rules", "ages",
  ]
  private static let ruleKeys = ["layers", "kv_heads", "keys", "values"]
  private static let ageKeys = ["beyond", "keys", "values"]

  private func read(_ field: PolicyField, into policy: inout Policy) throws(PolicyError) {
    switch field.name {
    case "name":
      let name = try document.text(field)
      try document.check(Policy.problem(name: name), field.value)
      policy.name = name
    case "page_tokens":
      policy.pageTokens = try document.integer(field)
      try document.check(Policy.problem(pageTokens: policy.pageTokens), field.value)
    case "sinks":
      policy.sinks = try integer(field, in: Policy.sinkRange)
    case "recent":
      policy.recent = try integer(field, in: Policy.recentRange)
    case "skip_below":
      policy.skipBelow = try document.number(field)
      try document.check(Policy.problem(skipBelow: policy.skipBelow), field.value)
    case "exact_rows":
      policy.exact = try exactRows(field)
    case "rules":
      policy.rules = try items(of: field, "rule", limit: Policy.ruleLimit, rule)
    case "ages":
      policy.ages = try items(of: field, "age", limit: Policy.ageLimit, age)
    default: break  // version, keys and values are read before
    }
  }

  /// The version comes before all else: a later one may have keys that are unknown here.
  private func checkVersion(of fields: [PolicyField], _ root: Node) throws(PolicyError) {
    guard let field = fields.first(where: { $0.name == "version" }) else {
      let near = fields.first { nearest($0.name, among: ["version"]) != nil }
      if let near { try document.check(keys: [near], among: Self.keys, in: "a policy") }
      throw document.missing("version", root, "write 'version: \(Policy.formatVersion)'")
    }
    let version = try document.integer(field)
    guard version == Policy.formatVersion else {
      throw document.error(
        "'version' is \(version); this library reads version \(Policy.formatVersion)",
        hint: "\(Policy.formatVersion)",
        field.value
      )
    }
  }

  private func integer(
    _ field: PolicyField,
    in range: ClosedRange<Int>
  ) throws(PolicyError) -> Int {
    let value = try document.integer(field)
    try document.check(Policy.problem(field.name, value, in: range), field.value)
    return value
  }
}

// MARK: - Rules and ages

extension PolicyReader {
  /// The items of a list that is not empty.
  private func items<Item>(
    of field: PolicyField,
    _ what: String,
    limit: Int,
    _ read: (_ node: Node, _ number: Int) throws(PolicyError) -> Item
  ) throws(PolicyError) -> [Item] {
    guard case .sequence(let nodes) = field.value else {
      throw document.wrongType(
        field,
        expected: "a list of \(field.name)",
        advice: "begin each \(what) with '- ', or leave the key out"
      )
    }
    guard !nodes.isEmpty else {
      throw document.error("'\(field.name)' is empty", advice: "leave the key out", field.value)
    }
    guard nodes.count <= limit else {
      throw document.error(
        "'\(field.name)' has \(nodes.count) \(what)s; expected at most \(limit)",
        advice: "remove this \(what) and those behind it, or join some",
        nodes[limit]
      )
    }
    var items: [Item] = []
    for (index, node) in nodes.enumerated() { items.append(try read(node, index + 1)) }
    return items
  }

  private func age(_ node: Node, number: Int) throws(PolicyError) -> Policy.Age {
    let fields = try document.pairs(of: node, "age \(number)")
    try document.check(keys: fields, among: Self.ageKeys, in: "an age")
    guard let beyond = fields.first(where: { $0.name == "beyond" }) else {
      throw document.missing("beyond", node, "add the age in tokens, such as 'beyond: 4096'")
    }
    var age = Policy.Age(beyond: try document.integer(beyond))
    age.marks = SourceMarks(file: document.file)
    age.marks["age"] = document.mark(node)
    for field in fields {
      age.marks[field.name] = document.mark(field.value)
      switch field.name {
      case "keys": age.keys = try codec(field)
      case "values": age.values = try codec(field)
      default: break
      }
    }
    guard age.keys != nil || age.values != nil else {
      throw PolicyError(
        Policy.changesNothing("age \(number)"),
        at: document.mark(node),
        of: document.file
      )
    }
    return age
  }

  private func rule(_ node: Node, number: Int) throws(PolicyError) -> Policy.Rule {
    let fields = try document.pairs(of: node, "rule \(number)")
    try document.check(keys: fields, among: Self.ruleKeys, in: "a rule")
    var rule = Policy.Rule()
    rule.marks = SourceMarks(file: document.file)
    rule.marks["rule"] = document.mark(node)
    for field in fields {
      rule.marks[field.name] = document.mark(field.value)
      switch field.name {
      case "layers": rule.layers = try selections(field, marks: &rule.marks)
      case "kv_heads": rule.kvHeads = try selections(field, marks: &rule.marks)
      case "keys": rule.keys = try codec(field)
      default: rule.values = try codec(field)
      }
    }
    guard rule.keys != nil || rule.values != nil else {
      throw PolicyError(
        Policy.changesNothing("rule \(number)"),
        at: document.mark(node),
        of: document.file
      )
    }
    return rule
  }

  /// One selection, or a list of them.
  private func selections(
    _ field: PolicyField,
    marks: inout SourceMarks
  ) throws(PolicyError) -> [IndexSelection] {
    var nodes = [field.value]
    if case .sequence(let items) = field.value {
      nodes = Array(items)
      guard !nodes.isEmpty else {
        throw document.error(
          "'\(field.name)' is empty",
          advice: "leave the key out to mean all",
          field.value
        )
      }
    }
    var selections: [IndexSelection] = []
    for (index, node) in nodes.enumerated() {
      marks["\(field.name).\(index)"] = document.mark(node)
      let text = try document.text(PolicyField(name: field.name, key: field.key, value: node))
      do {
        let selection = try IndexSelection(parsing: text)
        try selection.checkApart(from: selections)
        selections.append(selection)
      } catch {
        throw document.error(
          "'\(field.name)': \(error.message)",
          hint: error.hint,
          advice: error.advice,
          node
        )
      }
    }
    return selections
  }
}

// MARK: - Codecs

extension PolicyReader {
  /// `codec:bits`, or a mapping with `codec` and options.
  private func codec(_ field: PolicyField) throws(PolicyError) -> CodecDescription {
    guard case .mapping = field.value else {
      let advice = "write a word such as 'rotated:4', or a mapping with 'codec'"
      let text = try document.text(field, "a codec or a mapping", advice: advice)
      return try codec(named: text, field.value)
    }
    let pairs = try document.pairs(of: field.value, "a codec")
    guard let name = pairs.first(where: { $0.name == "codec" }) else {
      try document.check(keys: pairs, among: Self.codecKeys, in: "a codec")
      throw document.missing("codec", field.value, "add the codec's name, such as 'codec: linear'")
    }
    let text = try document.text(name)
    var codec = try codec(named: text, name.value)
    try document.check(keys: pairs, among: Self.codecKeys, in: "a codec")
    for option in pairs where option.name != "codec" {
      if option.name == "bits", text.contains(":") {
        throw document.error(
          "bits are given twice: '\(text)' names them too",
          advice: "leave 'bits' out",
          option.value
        )
      }
      let value = try document.text(option)
      try document.checkStyle(of: option, among: Self.unquotedOptions)
      do {
        try codec.set(option: option.name, to: value)
      } catch {
        throw PolicyError(error, at: document.mark(option.value), of: document.file)
      }
    }
    return codec
  }

  /// Options whose values are numbers, true or false.
  private static let unquotedOptions = ["bits", "group", "outliers", "zero_point"]

  private static let codecKeys = ["codec"] + CodecDescription.optionNames

  private func codec(named text: String, _ node: Node) throws(PolicyError) -> CodecDescription {
    do {
      return try CodecDescription(parsing: text, customNames: customNames)
    } catch {
      throw PolicyError(error, at: document.mark(node), of: document.file)
    }
  }

  private func exactRows(_ field: PolicyField) throws(PolicyError) -> CodecDescription {
    let text = try document.text(field)
    guard Policy.exactNames.contains(text) else {
      throw document.error(
        "'exact_rows' is '\(text)'; expected \(Policy.exactNames.joined(separator: ", "))",
        hint: nearest(text, among: Policy.exactNames),
        advice: "leave the key out for float16",
        field.value
      )
    }
    return try codec(named: text, field.value)
  }
}
