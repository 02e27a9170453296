import NibbleKV

/// What a tuned policy may cost.
public enum TuningBudget: Hashable, Sendable {
  /// Bits per value of sealed pages, with all side information; sinks and tail as in the policy that the tuner begins with.
  case bitsPerValue(Double)
  /// The bytes that a sequence holds, as a share of float16 rows.
  case share(Double)
  /// All bytes that a plan takes for a context of so many tokens, working memory included.
  case bytes(Int, context: Int)

  /// Reads `4.0bits`, `0.25x`, or `2GiB@128k`.
  ///
  /// - Throws: ``EvaluationError/invalidOption(name:value:expected:)``.
  public init(parsing text: String) throws(EvaluationError) {
    guard let budget = Self.read(text) else {
      throw .invalidOption(
        name: "the budget",
        value: "'\(text)'",
        expected:
          "bits per value such as 4.0bits (0.5 to 32), a share of float16 such as 0.25x (0.01 to 2), or bytes at a context such as "
          + "2GiB@128k"
      )
    }
    self = budget
  }

  private static func read(_ text: String) -> TuningBudget? {
    let text = text.lowercased()
    if text.hasSuffix("bits") {
      return Double(text.dropLast(4)).flatMap {
        (0.5...32).contains($0) ? .bitsPerValue($0) : nil
      }
    }
    if text.hasSuffix("x") {
      return Double(text.dropLast()).flatMap { (0.01...2).contains($0) ? .share($0) : nil }
    }
    let parts = text.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2, let bytes = ByteSize(parts[0]), bytes.count > 0,
      let context = tokens(parts[1])
    else { return nil }
    return .bytes(bytes.count, context: context)
  }

  /// `65536`, `64k` or `1m`.
  private static func tokens(_ text: String) -> Int? {
    let digits = text.prefix(while: \.isNumber)
    let shifts = ["": 0, "k": 10, "m": 20]
    guard let number = Int(digits), let shift = shifts[String(text.dropFirst(digits.count))],
      (1...ModelShape.tokenLimit >> shift).contains(number)
    else { return nil }
    return number << shift
  }
}

extension TuningBudget: CustomStringConvertible {
  /// The written form.
  public var description: String {
    switch self {
    case .bitsPerValue(let bits): "\(bits)bits"
    case .share(let share): "\(share)x"
    case .bytes(let bytes, let context): "\(bytes)@\(context)"
    }
  }
}

/// A number of bytes as it is written on the command line: `65536`, `64KiB`, `512MiB`, `2GiB`, `1TiB`.
public struct ByteSize: Hashable, Sendable {
  /// Bytes.
  public var count: Int

  /// Reads the written form; `nil` for anything else.
  public init?(_ text: String) {
    let digits = text.prefix(while: \.isNumber)
    let units = ["": 0, "b": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40]
    guard let number = Int(digits), number >= 0,
      let shift = units[text.dropFirst(digits.count).lowercased()]
    else { return nil }
    let (count, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    guard !overflow else { return nil }
    self.count = count
  }
}
