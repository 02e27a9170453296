/// The written form of a description, as it stands in policies, tables and JSON.
extension CodecDescription: CustomStringConvertible {
  /// Names of the built-in codes, in the order in which help texts list them.
  public static let builtInNames = [
    "float32", "float16", "bfloat16", "int8", "linear", "clustered", "rotated",
    "trellis", "bcq", "microscaling", "pyramid", "seeded",
  ]

  /// The keys of a codec mapping, beside `codec`, in the order in which they are written.
  public static let optionNames = [
    "bits", "format", "axis", "group", "zero_point", "clip", "scales", "shaping", "outliers",
    "blocks",
    "rotation", "mean",
  ]

  /// The code's name, without bits.
  public var name: String {
    switch code {
    case .float32: "float32"
    case .float16: "float16"
    case .bfloat16: "bfloat16"
    case .int8: "int8"
    case .linear: "linear"
    case .clustered: "clustered"
    case .rotated: "rotated"
    case .trellis: "trellis"
    case .bcq: "bcq"
    case .microscaling: "microscaling"
    case .pyramid: "pyramid"
    case .seeded: "seeded"
    case .custom(let name): name
    }
  }

  /// `codec:bits` and whatever differs from the code's defaults, for example
  /// `linear:4 axis=channel group=32`.
  public var description: String {
    ([shortName] + optionsUnlikeDefault.map { "\($0)=\($1)" }).joined(separator: " ")
  }

  /// `codec:bits`, or the name alone where the bits follow from it.
  public var shortName: String {
    switch code {
    case .linear, .clustered, .rotated, .trellis, .bcq, .pyramid: "\(name):\(bits)"
    default: name
    }
  }

  /// The options that differ from the code's defaults, as they are written, in the order of ``optionNames``.
  package var optionsUnlikeDefault: [(String, String)] {
    let plain = CodecDescription(code, bits: bits)
    var options: [(String, String)] = []
    if case .microscaling(let format) = code, format != .mxfp4 {
      options.append(("format", format.rawValue))
    }
    if axis != plain.axis { options.append(("axis", axis.rawValue)) }
    if let group { options.append(("group", String(group))) }
    if zeroPoint != plain.zeroPoint { options.append(("zero_point", String(zeroPoint))) }
    if clipsRange { options.append(("clip", "search")) }
    if balancesScales { options.append(("scales", "balanced")) }
    if shapesErrors { options.append(("shaping", "queries")) }
    if outlierPercent != 0 { options.append(("outliers", Self.text(percent: outlierPercent))) }
    if blocks != plain.blocks { options.append(("blocks", blocks.rawValue)) }
    if rotation != plain.rotation { options.append(("rotation", rotation.rawValue)) }
    if removesMean { options.append(("mean", "removed")) }
    return options
  }

  /// Reads `name` or `name:bits`.
  ///
  /// - Parameters:
  ///   - text: The written form.
  ///   - customNames: Names that a host has registered.
  /// - Throws: ``CodecError/unknownCodec(name:nearest:)`` or ``CodecError/unsupportedBits(codec:bits:accepted:)``.
  public init(
    parsing text: String,
    customNames: [String] = []
  ) throws(CodecError) {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      .map(String.init)
    let code = try Self.code(named: parts[0], customNames: customNames)
    guard parts.count == 2 else {
      self.init(code)
      return
    }
    let accepted = Self.acceptedBits(of: code)
    guard let bits = Int(parts[1]), accepted.contains(bits) else {
      throw .unsupportedBits(codec: parts[0], bits: parts[1], accepted: accepted)
    }
    self.init(code, bits: bits)
  }

  /// Sets one option by its written name.
  ///
  /// - Throws: ``CodecError/unknownOption(name:nearest:)`` or
  ///   ``CodecError/invalidOption(name:value:expected:)``.
  public mutating func set(option: String, to value: String) throws(CodecError) {
    switch option {
    case "bits":
      let accepted = Self.acceptedBits(of: code)
      guard let bits = Int(value), accepted.contains(bits) else {
        throw .unsupportedBits(codec: name, bits: value, accepted: accepted)
      }
      self.bits = bits
    case "format":
      try set(format: value)
    case "axis":
      axis = try Self.word(option, value)
    case "group":
      guard let group = Int(value), group > 0, group % 16 == 0, group <= 4096 else {
        throw .invalidOption(name: option, value: value, expected: ["a multiple of 16"])
      }
      self.group = group
    case "zero_point":
      zeroPoint = try Self.choice(option, value, yes: "true", no: "false")
    case "clip":
      clipsRange = try Self.choice(option, value, yes: "search", no: "none")
    case "scales":
      balancesScales = try Self.choice(option, value, yes: "balanced", no: "plain")
    case "shaping":
      shapesErrors = try Self.choice(option, value, yes: "queries", no: "none")
    case "outliers":
      guard let percent = Double(value), percent >= 0, percent <= Self.largestOutlierPercent else {
        throw .invalidOption(name: option, value: value, expected: ["a percentage from 0 to 10"])
      }
      outlierPercent = percent
    case "blocks":
      blocks = try Self.word(option, value)
    case "rotation":
      rotation = try Self.word(option, value)
    case "mean":
      removesMean = try Self.choice(option, value, yes: "removed", no: "kept")
    default:
      throw .unknownOption(name: option, nearest: nearest(option, among: Self.optionNames))
    }
  }

  static let largestOutlierPercent = 10.0

  private static func text(percent: Double) -> String {
    percent == percent.rounded() ? String(Int(percent)) : String(percent)
  }

  private mutating func set(format: String) throws(CodecError) {
    guard case .microscaling = code else {
      throw .unsupportedOption(
        codec: name,
        option: "format=\(format)",
        reason: "only microscaling has formats"
      )
    }
    let known: MicroscalingFormat = try Self.word("format", format)
    code = .microscaling(known)
    bits = known.bits
  }

  private static func code(named name: String, customNames: [String]) throws(CodecError) -> Code {
    switch name {
    case "float32": return .float32
    case "float16": return .float16
    case "bfloat16": return .bfloat16
    case "int8": return .int8
    case "linear": return .linear
    case "clustered": return .clustered
    case "rotated": return .rotated
    case "trellis": return .trellis
    case "bcq": return .bcq
    case "microscaling": return .microscaling(.mxfp4)
    case "pyramid": return .pyramid
    case "seeded": return .seeded
    default:
      if customNames.contains(name) { return .custom(name) }
      throw .unknownCodec(name: name, nearest: nearest(name, among: builtInNames + customNames))
    }
  }

  private static func word<Word: RawRepresentable<String> & CaseIterable>(
    _ option: String,
    _ value: String
  ) throws(CodecError) -> Word {
    guard let word = Word(rawValue: value) else {
      throw .invalidOption(name: option, value: value, expected: Word.allCases.map(\.rawValue))
    }
    return word
  }

  private static func choice(
    _ option: String,
    _ value: String,
    yes: String,
    no: String
  ) throws(CodecError) -> Bool {
    switch value {
    case yes: return true
    case no: return false
    default: throw .invalidOption(name: option, value: value, expected: [yes, no])
    }
  }
}

/// The word in `words` that takes the fewest edits to reach from `word`, if it is close enough to be a slip.
///
/// Only the first 64 characters of `word` are looked at. Complexity: O(`words.count` · `word.count`²).
package func nearest(_ word: String, among words: [String]) -> String? {
  let word = String(word.prefix(64))
  let scored = words.map { ($0, editDistance(word, $0)) }
  guard let best = scored.min(by: { $0.1 < $1.1 }) else { return nil }
  return best.1 <= max(2, word.count / 2) ? best.0 : nil
}

private func editDistance(_ a: String, _ b: String) -> Int {
  let a = Array(a)
  let b = Array(b)
  var row = Array(0...b.count)
  for (i, x) in a.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let replaced = diagonal + (x == y ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
    }
  }
  return row[b.count]
}
