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
  /// The codecs that ``exact-swift.property`` may be.
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
        ? nil : ("'exact_rows' is '\(exact)'; expected float32, float16 or bfloat16", nil, nil),
      rules.count <= Self.ruleLimit
        ? nil : ("\(rules.count) rules are more than \(Self.ruleLimit)", nil, nil),
    ]
    if let problem = problems.compactMap({ $0 }).first {
      throw PolicyError(problem, at: nil, of: marks.file)
    }
    for (index, rule) in rules.enumerated() {
      let mark = rule.marks["rule"]
      if rule.keys == nil, rule.values == nil {
        throw PolicyError(Self.changesNothing("rule \(index + 1)"), at: mark, of: rule.marks.file)
      }
      do {
        try IndexSelection.checkApart(rule.layers)
        try IndexSelection.checkApart(rule.kvHeads)
      } catch {
        throw PolicyError(
          "rule \(index + 1): \(error.message)",
          hint: error.hint,
          advice: error.advice,
          at: mark,
          of: rule.marks.file
        )
      }
      if rule.layers.isEmpty || rule.kvHeads.isEmpty {
        throw PolicyError(
          "rule \(index + 1) selects nothing",
          advice: "leave the key out to mean all",
          at: mark,
          of: rule.marks.file
        )
      }
    }
    try validateAges()
  }

  func validateAges() throws(PolicyError) {
    guard ages.count <= Self.ageLimit else {
      throw PolicyError("\(ages.count) ages are more than \(Self.ageLimit)", file: marks.file)
    }
    var least = max(1, recent)
    for (index, age) in ages.enumerated() {
      let mark = age.marks["age"]
      if age.keys == nil, age.values == nil {
        throw PolicyError(Self.changesNothing("age \(index + 1)"), at: mark, of: age.marks.file)
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

  /// What is wrong with a value, and what to do about it.
  typealias Problem = (message: String, hint: String?, advice: String?)

  static func changesNothing(_ what: String) -> Problem {
    ("\(what) changes nothing", nil, "give it 'keys' or 'values'")
  }

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
      near.map(String.init), nil
    )
  }

  static func problem(_ key: String, _ value: Int, in range: ClosedRange<Int>) -> Problem? {
    if range.contains(value) { return nil }
    let near = min(max(value, range.lowerBound), range.upperBound)
    return (
      "'\(key)' is \(value); expected \(range.lowerBound) to \(range.upperBound)", String(near), nil
    )
  }

  static func problem(skipBelow: Double) -> Problem? {
    if skipBelowRange.contains(skipBelow) { return nil }
    let limits = "at least \(skipBelowRange.lowerBound) and below \(skipBelowRange.upperBound)"
    return ("'skip_below' is \(skipBelow); expected \(limits)", nil, "0 reads all pages")
  }

  static func problem(name: String) -> Problem? {
    let scalars = name.unicodeScalars
    if scalars.isEmpty { return ("'name' is empty", nil, "leave the key out") }
    if scalars.count > nameLimit {
      return (
        "'name' has \(scalars.count) characters; expected at most \(nameLimit)", nil, "shorten it"
      )
    }
    let controls: (Unicode.Scalar) -> Bool = { $0.properties.generalCategory == .control }
    return scalars.contains(where: controls)
      ? ("'name' has control characters", nil, "write it in plain letters on one line") : nil
  }
}
