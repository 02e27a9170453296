internal import NibbleCodec

/// What is wrong with a policy, where, and which word was probably meant.
public struct PolicyError: Error, Hashable, Sendable {
  /// The file, as it was named by the caller; `nil` for text that came from elsewhere.
  public var file: String?
  /// The line, from 1.
  public var line: Int?
  /// The column, from 1, counted in Unicode scalars.
  public var column: Int?
  /// What is wrong, with the value and the limit.
  public var message: String
  /// The nearest valid word or value.
  public var hint: String?
  /// What to do, in a few words, where no single word is the answer.
  public var advice: String?

  /// Creates an error.
  ///
  /// - Parameters:
  ///   - message: What is wrong, with the value and the limit.
  ///   - hint: The nearest valid word or value.
  ///   - advice: What to do, in a few words.
  ///   - file: The file, as the caller named it.
  ///   - line: The line, from 1.
  ///   - column: The column, from 1.
  public init(
    _ message: String,
    hint: String? = nil,
    advice: String? = nil,
    file: String? = nil,
    line: Int? = nil,
    column: Int? = nil
  ) {
    self.message = message
    self.hint = hint
    self.advice = advice
    self.file = file
    self.line = line
    self.column = column
  }
}

extension PolicyError: CustomStringConvertible {
  /// One line: `file:line:column: what is wrong; did you mean 'this'?`.
  public var description: String {
    place + message + (remedy.map { "; \($0)" } ?? "")
  }

  /// Lines as compilers write them, for programs that read those: `file:line:column: error: what is wrong`, then `hint: what to do`.
  public var diagnostic: String {
    place + "error: " + message + (remedy.map { "\nhint: \($0)" } ?? "")
  }

  private var remedy: String? {
    hint.map { "did you mean '\($0)'?" } ?? advice
  }

  private var place: String {
    switch (file, line, column) {
    case (let file?, let line?, let column?): "\(file):\(line):\(column): "
    case (let file?, _, _): "\(file): "
    case (nil, let line?, let column?): "line \(line), column \(column): "
    default: ""
    }
  }
}

extension PolicyError {
  /// An error found at `mark` of `file`.
  init(
    _ message: String,
    hint: String? = nil,
    advice: String? = nil,
    at mark: SourceMark?,
    of file: String?
  ) {
    self.init(
      message,
      hint: hint,
      advice: advice,
      file: file,
      line: mark?.line,
      column: mark?.column
    )
  }

  /// An error of a policy's value, found at `mark` of `file`.
  init(_ problem: Policy.Problem, at mark: SourceMark?, of file: String?) {
    self.init(problem.message, hint: problem.hint, advice: problem.advice, at: mark, of: file)
  }

  /// An error of the codec catalogue, found at `mark` of `file`.
  init(_ error: CodecError, about subject: String = "", at mark: SourceMark?, of file: String?) {
    let (message, hint, advice): (String, String?, String?) =
      switch error {
      case .unknownCodec(let name, let nearest):
        (
          "unknown codec '\(name)'", nearest,
          "the codecs are \(CodecDescription.builtInNames.joined(separator: ", "))"
        )
      case .unknownOption(let name, let nearest):
        ("unknown codec option '\(name)'", nearest, "leave it out")
      case .unsupportedBits(let codec, let bits, let accepted):
        (
          error.description, Self.nearestNumber(to: bits, among: accepted),
          "write '\(codec)' for its default, or '\(codec):\(accepted.last ?? 4)'"
        )
      case .invalidOption(_, let value, let expected):
        (
          error.description, expected.count > 1 ? nearest(value, among: expected) : nil,
          "leave it out for the default"
        )
      case .unsupportedOption(_, let option, _)
      where ["rotation=aligned", "shaping=queries"].contains(option):
        (
          error.description, nil,
          "give the calibration that 'nibble calibrate' wrote for this model"
        )
      case .foreignCalibration, .invalidTransform:
        (error.description, nil, "calibrate this model with 'nibble calibrate'")
      case .custom, .valueOutOfRange, .wrongLength: (error.description, nil, nil)
      case .unsupportedOption, .unsupportedHeadDimension, .unsupportedPageTokens:
        (error.description, nil, "leave the option out, or choose another codec")
      }
    self.init(subject + message, hint: hint, advice: advice, at: mark, of: file)
  }

  private static func nearestNumber(to text: String, among numbers: [Int]) -> String? {
    guard let wanted = Int(text) else { return nil }
    return numbers.min { $0.distance(from: wanted) < $1.distance(from: wanted) }.map(String.init)
  }
}

extension Int {
  fileprivate func distance(from other: Int) -> Double { abs(Double(self) - Double(other)) }
}

/// Where something is written: line and column from 1.
struct SourceMark: Hashable, Sendable {
  var line: Int
  var column: Int
}

/// Where the parts of a policy or a rule are written, by the path of the part (`keys`, `layers.0`).
///
/// Marks never take part in comparisons: two policies that say the same are equal, wherever they
/// were written.
struct SourceMarks: Hashable, Sendable {
  var file: String?
  private var marks: [String: SourceMark] = [:]

  init(file: String? = nil) {
    self.file = file
  }

  subscript(path: String) -> SourceMark? {
    get { marks[path] }
    set { marks[path] = newValue }
  }

  static func == (_: SourceMarks, _: SourceMarks) -> Bool { true }
  func hash(into _: inout Hasher) {}
}
