internal import NibbleCodec

extension Policy {
  /// The policy as a YAML file of the current version.
  ///
  /// Reading it gives an equal policy.
  public var yaml: String {
    var lines = ["version: \(version)"]
    if let name { lines.append("name: \(quoted(name))") }
    lines += [
      "page_tokens: \(pageTokens)",
      "sinks: \(sinks)",
      "recent: \(recent)",
      "exact_rows: \(exact.yaml)",
      "keys: \(keys.yaml)",
      "values: \(values.yaml)",
    ]
    // Older readers do not know the key.
    if skipBelow != 0 { lines.append("skip_below: \(skipBelow)") }
    if !rules.isEmpty { lines.append("rules:") }
    for rule in rules {
      lines.append("  - layers: \(written(rule.layers))")
      if rule.kvHeads != [.all] { lines.append("    kv_heads: \(written(rule.kvHeads))") }
      if let keys = rule.keys { lines.append("    keys: \(keys.yaml)") }
      if let values = rule.values { lines.append("    values: \(values.yaml)") }
    }
    if !ages.isEmpty { lines.append("ages:") }
    for age in ages {
      lines.append("  - beyond: \(age.beyond)")
      if let keys = age.keys { lines.append("    keys: \(keys.yaml)") }
      if let values = age.values { lines.append("    values: \(values.yaml)") }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private func written(_ selections: [IndexSelection]) -> String {
    selections.count == 1
      ? "\(selections[0])"
      : "[" + selections.map(\.description).joined(separator: ", ") + "]"
  }
}

extension CodecDescription {
  /// `codec:bits`, or a flow mapping where something differs from the code's defaults.
  var yaml: String {
    let plain = CodecDescription(code, bits: bits)
    if self == plain { return quoted(shortName) }
    var pairs = [("codec", quoted(name))]
    if Self.acceptedBits(of: code).count > 1 { pairs.append(("bits", "\(bits)")) }
    pairs += optionsUnlikeDefault
    return "{ " + pairs.map { "\($0): \($1)" }.joined(separator: ", ") + " }"
  }
}

/// A scalar of YAML: plain where that is safe in every place, double-quoted otherwise.
private func quoted(_ text: String) -> String {
  let isWord: (Unicode.Scalar) -> Bool = {
    $0.isASCII && ($0.properties.isAlphabetic || $0.properties.numericType != nil)
      || "_.:-".unicodeScalars.contains($0)
  }
  let reserved = ["true", "false", "null", "yes", "no", "on", "off"]
  let isPlain =
    text.unicodeScalars.first.map { $0.isASCII && $0.properties.isAlphabetic } ?? false
    && text.unicodeScalars.allSatisfy(isWord)
    && text.last != ":" && !reserved.contains(text.lowercased())
  if isPlain { return text }
  return "\"" + text.unicodeScalars.map(escaped).joined() + "\""
}

private func escaped(_ scalar: Unicode.Scalar) -> String {
  switch scalar {
  case "\"": return "\\\""
  case "\\": return "\\\\"
  case " "..."~": return String(scalar)
  default:
    // Letters of any script may stand as they are; all else is safer as a number.
    if scalar.properties.isAlphabetic { return String(scalar) }
    let digits = String(scalar.value, radix: 16, uppercase: true)
    return "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
  }
}
