import Foundation

/// Cuts text into the words inside which pairs are merged.
struct PreTokenizer: Sendable {
  private enum Step: Sendable {
    /// Cuts at matches; nil keeps the text whole. A space may go before each piece first.
    case byteLevel(addsPrefixSpace: Bool, pattern: NSRegularExpression?)
    /// Cuts at matches, or drops what lies between them.
    case split(NSRegularExpression, keeps: Keeping)
  }

  /// Which parts of a text a split keeps.
  private enum Keeping: Sendable {
    case all
    case matches
    case gaps
  }

  private var steps: [Step] = []

  init(_ component: TokenizerComponent?, file: String) throws(CheckpointError) {
    try append(component, file: file)
    // Without this step the vocabulary's characters would not stand for bytes.
    let isByteLevel = steps.contains {
      if case .byteLevel = $0 { true } else { false }
    }
    guard isByteLevel else {
      throw .unsupported(
        what: "pre-tokenizer",
        value: component?.type ?? "none",
        supported: Self.supported
      )
    }
  }

  func split(_ text: String) -> [String] {
    steps.reduce([text]) { pieces, step in
      pieces.flatMap { Self.apply(step, to: $0) }
    }
  }

  private static let supported = "ByteLevel, alone or in a Sequence after Split and Digits"

  private mutating func append(
    _ component: TokenizerComponent?,
    file: String
  ) throws(CheckpointError) {
    guard let component else { return }
    switch component.type {
    case "Sequence":
      for part in component.parts { try append(part, file: file) }
    case "ByteLevel":
      let pattern =
        component.usesPattern ?? true ? try Self.expression(Self.gpt2Pattern, file: file) : nil
      // An absent option means a space, as in the tokenizers library.
      let addsSpace = component.addsPrefixSpace ?? true
      steps.append(.byteLevel(addsPrefixSpace: addsSpace, pattern: pattern))
    case "Digits":
      let pattern = component.splitsDigits ?? false ? #"\p{N}"# : #"\p{N}+"#
      steps.append(.split(try Self.expression(pattern, file: file), keeps: .all))
    case "Split":
      steps.append(try Self.split(component, file: file))
    default:
      throw .unsupported(
        what: "pre-tokenizer",
        value: component.type,
        supported: Self.supported
      )
    }
  }

  private static func split(
    _ component: TokenizerComponent,
    file: String
  ) throws(CheckpointError) -> Step {
    let pattern: String
    if let expression = component.pattern?.expression {
      pattern = expression
    } else if let text = component.pattern?.text {
      pattern = NSRegularExpression.escapedPattern(for: text)
    } else {
      throw .invalidTokenizer(file: file, reason: "a Split has neither a Regex nor a String")
    }
    let expression = try expression(pattern, file: file)
    let isInverted = component.isInverted ?? false
    switch component.behavior ?? "Isolated" {
    case "Isolated": return .split(expression, keeps: .all)
    case "Removed": return .split(expression, keeps: isInverted ? .matches : .gaps)
    case let behavior:
      throw .unsupported(what: "Split behavior", value: behavior, supported: "Isolated, Removed")
    }
  }

  private static func expression(
    _ pattern: String,
    file: String
  ) throws(CheckpointError) -> NSRegularExpression {
    do {
      return try NSRegularExpression(pattern: pattern)
    } catch {
      throw .invalidTokenizer(file: file, reason: "the pattern '\(pattern)' is not valid")
    }
  }

  private static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  private static func apply(_ step: Step, to text: String) -> [String] {
    switch step {
    case .byteLevel(let addsPrefixSpace, let pattern):
      let needsSpace = addsPrefixSpace && text.utf8.first != UInt8(ascii: " ")
      let text = needsSpace ? " " + text : text
      return pattern.map { cut(text, at: $0, keeps: .all) } ?? [text]
    case .split(let pattern, let keeps):
      return cut(text, at: pattern, keeps: keeps)
    }
  }

  private static func cut(
    _ text: String,
    at pattern: NSRegularExpression,
    keeps: Keeping
  ) -> [String] {
    let units = Array(text.utf16)
    var pieces: [String] = []
    var end = 0
    let keep = { (range: Range<Int>) in
      if !range.isEmpty { pieces.append(String(decoding: units[range], as: UTF16.self)) }
    }
    let whole = NSRange(location: 0, length: units.count)
    for match in pattern.matches(in: text, range: whole) where match.range.length > 0 {
      let range = match.range.lowerBound..<match.range.upperBound
      if keeps != .matches { keep(end..<range.lowerBound) }
      if keeps != .gaps { keep(range) }
      end = range.upperBound
    }
    if keeps != .matches { keep(end..<units.count) }
    return pieces
  }
}
