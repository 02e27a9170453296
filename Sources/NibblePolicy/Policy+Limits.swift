internal import NibbleCodec

extension Policy {
  /// The version of the written format that this library reads and writes.
  public static let formatVersion = 1
  /// Bytes that a policy file may have.
  public static let fileByteLimit = 1_048_576
  /// Rules that a policy may have.
  public static let ruleLimit = 256
  /// Ages that a policy may have.
  public static let ageLimit = 4
  /// Unicode scalars that a policy's name may have.
  public static let nameLimit = 200
  /// The range of ``sinks``.
  public static let sinkRange = 0...1024
  /// The range of ``recent``.
  public static let recentRange = 0...65_536
  /// The range of ``skipBelow``.
  public static let skipBelowRange = 0.0..<0.5
  /// The codecs that ``exact`` may be.
  public static let exactNames = ["float32", "float16", "bfloat16"]

  /// Checks all numbers of a policy that was made in code.
  ///
  /// Layers, heads and codec options are
  /// checked by ``Plan``, which knows the model.
  ///
  /// - Throws: ``PolicyError`` that names the value and the limit.
  public func validate() throws(PolicyError) {
    let problems = [
      Self.problem(pageTokens: pageTokens),
      Self.problem("sinks", sinks, in: Self.sinkRange),
      Self.problem("recent", recent, in: Self.recentRange),
      Self.problem(skipBelow: skipBelow),
      name.flatMap(Self.problem(name:)),
      exact.isExactRows
        ? nil : ("'exact_rows' is '\(exact)'; expected float32, float16 or bfloat16", nil),
      rules.count <= Self.ruleLimit
        ? nil : ("\(rules.count) rules are more than \(Self.ruleLimit)", nil),
    ]
    if let problem = problems.compactMap({ $0 }).first {
      throw PolicyError(problem.message, hint: problem.hint, file: marks.file)
    }
    for (index, rule) in rules.enumerated() {
      let mark = rule.marks["rule"]
      if rule.keys == nil, rule.values == nil {
        let message = "rule \(index + 1) changes nothing; it needs 'keys' or 'values'"
        throw PolicyError(message, at: mark, of: rule.marks.file)
      }
      if rule.layers.isEmpty || rule.kvHeads.isEmpty {
        let message = "rule \(index + 1) selects nothing; leave the key out to mean all"
        throw PolicyError(message, at: mark, of: rule.marks.file)
      }
    }
    try validateAges()
  }

  private func validateAges() throws(PolicyError) {
    guard ages.count <= Self.ageLimit else {
      throw PolicyError("\(ages.count) ages are more than \(Self.ageLimit)", file: marks.file)
    }
    var least = max(1, recent)
    for (index, age) in ages.enumerated() {
      let mark = age.marks["age"]
      if age.keys == nil, age.values == nil {
        let message = "age \(index + 1) changes nothing; it needs 'keys' or 'values'"
        throw PolicyError(message, at: mark, of: age.marks.file)
      }
      guard (least...ModelShape.tokenLimit).contains(age.beyond) else {
        let why = index == 0 ? "'recent' is \(recent)" : "ages go from young to old"
        throw PolicyError(
          "age \(index + 1): 'beyond' is \(age.beyond); expected \(least) to "
            + "\(ModelShape.tokenLimit), since \(why)",
          hint: "\(least)",
          at: age.marks["beyond"] ?? mark,
          of: age.marks.file
        )
      }
      least = age.beyond + 1
    }
  }

  typealias Problem = (message: String, hint: String?)

  static func problem(pageTokens: Int) -> Problem? {
    let isValid =
      [16, 32, 48].contains(pageTokens)
      || (64...1024).contains(pageTokens) && pageTokens % 64 == 0
    if isValid { return nil }
    let valid = [16, 32, 48] + Array(stride(from: 64, through: 1024, by: 64))
    let near = valid.min {
      abs(Double($0) - Double(pageTokens)) < abs(Double($1) - Double(pageTokens))
    }
    return (
      "'page_tokens' is \(pageTokens); expected 16, 32, 48 or a multiple of 64 up to 1024",
      near.map(String.init)
    )
  }

  static func problem(_ key: String, _ value: Int, in range: ClosedRange<Int>) -> Problem? {
    if range.contains(value) { return nil }
    let near = min(max(value, range.lowerBound), range.upperBound)
    return (
      "'\(key)' is \(value); expected \(range.lowerBound) to \(range.upperBound)", String(near)
    )
  }

  static func problem(skipBelow: Double) -> Problem? {
    if skipBelowRange.contains(skipBelow) { return nil }
    let limits = "at least \(skipBelowRange.lowerBound) and below \(skipBelowRange.upperBound)"
    return ("'skip_below' is \(skipBelow); expected \(limits)", nil)
  }

  static func problem(name: String) -> Problem? {
    let scalars = name.unicodeScalars
    if scalars.isEmpty { return ("'name' is empty", nil) }
    if scalars.count > nameLimit {
      return ("'name' has \(scalars.count) characters; expected at most \(nameLimit)", nil)
    }
    let controls: (Unicode.Scalar) -> Bool = { $0.properties.generalCategory == .control }
    return scalars.contains(where: controls) ? ("'name' has control characters", nil) : nil
  }
}
