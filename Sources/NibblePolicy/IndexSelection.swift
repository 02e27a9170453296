internal import NibbleCodec

/// Some of the layers of a model, or some of the KV heads of a layer.
public enum IndexSelection: Hashable, Sendable {
  /// Every index.
  case all
  /// The indices of a closed range, counted from 0.
  case range(ClosedRange<Int>)
  /// The first few.
  case first(Int)
  /// The last few.
  case last(Int)

  /// One index, counted from 0.
  public static func index(_ index: Int) -> IndexSelection { .range(index...index) }
}

extension IndexSelection {
  /// Selections of ascending indices out of `count`; `all` where they are all of them.
  package static func covering(_ indices: [Int], of count: Int) -> [IndexSelection] {
    indices.count == count ? [.all] : ranges(of: indices).map(IndexSelection.range)
  }
}

extension IndexSelection: CustomStringConvertible {
  /// The written form: `all`, `3`, `0-1`, `first 2` or `last 2`.
  public var description: String {
    switch self {
    case .all: "all"
    case .range(let range) where range.lowerBound == range.upperBound: "\(range.lowerBound)"
    case .range(let range): "\(range.lowerBound)-\(range.upperBound)"
    case .first(let count): "first \(count)"
    case .last(let count): "last \(count)"
    }
  }
}

extension IndexSelection {
  /// Ranges of `count` indices in the words of the policy file: `all`, or `0-1,30-31`.
  package static func text(_ ranges: [ClosedRange<Int>], of count: Int) -> String {
    if ranges == [0...(count - 1)] { return "\(IndexSelection.all)" }
    return ranges.map { "\(IndexSelection.range($0))" }.joined(separator: ",")
  }

  /// Rising indices as the ranges that they make up.
  package static func ranges(of indices: [Int]) -> [ClosedRange<Int>] {
    var ranges: [ClosedRange<Int>] = []
    for index in indices {
      if let last = ranges.last, last.upperBound + 1 == index {
        ranges[ranges.count - 1] = last.lowerBound...index
      } else {
        ranges.append(index...index)
      }
    }
    return ranges
  }
}

extension IndexSelection {
  /// Reads the written form.
  init(parsing text: String) throws(SelectionError) {
    let words = text.split(whereSeparator: \.isWhitespace).map(String.init)
    switch words.count {
    case 1 where words[0] == "all":
      self = .all
    case 1 where words[0].first.map { $0.isASCII && $0.isNumber || $0 == "-" } ?? false:
      self = .range(try Self.range(words[0]))
    case 1 where Self.words.contains(words[0]):
      throw SelectionError("'\(text)' needs a count", hint: "\(words[0]) 1")
    case 2 where words[0] == "first":
      self = .first(try Self.count(words[1], in: text))
    case 2 where words[0] == "last":
      self = .last(try Self.count(words[1], in: text))
    default:
      throw Self.unknown(text, words)
    }
  }

  /// The indices that this selects out of `count`; `thing` names one of them in messages.
  func resolved(count: Int, thing: String) throws(SelectionError) -> ClosedRange<Int> {
    switch self {
    case .all: return 0...(count - 1)
    case .range(let range):
      guard range.lowerBound >= 0, range.upperBound < count else {
        let wrong = range.lowerBound < 0 ? range.lowerBound : range.upperBound
        throw SelectionError(
          "\(thing) \(wrong) does not exist; the model has \(count), counted 0 to \(count - 1)",
          hint: Self.clamped(range, to: count).description
        )
      }
      return range
    case .first(let some), .last(let some):
      guard (1...count).contains(some) else {
        let word = if case .first = self { "first" } else { "last" }
        throw SelectionError(
          "'\(self)' asks for \(some) \(thing)s; the model has \(count)",
          hint: "\(word) \(min(max(some, 1), count))"
        )
      }
      if case .first = self { return 0...(some - 1) }
      return (count - some)...(count - 1)
    }
  }

  private static let words = ["all", "first", "last"]

  private static func clamped(_ range: ClosedRange<Int>, to count: Int) -> IndexSelection {
    .range(range.clamped(to: 0...(count - 1)))
  }

  private static func range(_ text: String) throws(SelectionError) -> ClosedRange<Int> {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    let numbers = parts.compactMap { wholeNumber($0) }
    guard numbers.count == parts.count, (1...2).contains(parts.count) else {
      throw SelectionError(
        "'\(text)' is no index",
        advice: "write one index such as 3, or a range such as 0-1, from 0 up"
      )
    }
    guard numbers[0] <= numbers[parts.count - 1] else {
      throw SelectionError("range '\(text)' runs backwards", hint: "\(numbers[1])-\(numbers[0])")
    }
    return numbers[0]...numbers[parts.count - 1]
  }

  private static func count(_ word: String, in text: String) throws(SelectionError) -> Int {
    guard let count = wholeNumber(word[...]), count > 0 else {
      throw SelectionError(
        "'\(text)' needs a count from 1 up",
        advice: "write a number behind the word, such as 'last 2'"
      )
    }
    return count
  }

  private static func wholeNumber(_ text: Substring) -> Int? {
    text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
  }

  private static func unknown(_ text: String, _ words: [String]) -> SelectionError {
    if text.contains(",") {
      return SelectionError("'\(text)' is no selection, but several", hint: "[\(text)]")
    }
    let near = words.first.flatMap { nearest($0, among: Self.words) }
    let hint = near.map { ([$0] + words.dropFirst()).joined(separator: " ") }
    return SelectionError(
      "'\(text)' is no selection; expected 'all', an index, a range, 'first N' or 'last N'",
      hint: hint,
      advice: "write the numbers of layers or heads, counted from 0"
    )
  }
}

extension IndexSelection {
  /// Refuses selections of one list that overlap, whatever the model.
  static func checkApart(_ selections: [IndexSelection]) throws(SelectionError) {
    for (index, selection) in selections.enumerated() {
      try selection.checkApart(from: Array(selections[..<index]))
    }
  }

  /// Refuses what others select as well, whatever the model: it is a slip, or says nothing.
  func checkApart(from others: [IndexSelection]) throws(SelectionError) {
    for other in others {
      let overlaps: Bool
      switch (self, other) {
      case (.all, _), (_, .all), (.first, .first), (.last, .last): overlaps = true
      case (.range(let some), .range(let others)): overlaps = some.overlaps(others)
      case (.range(let some), .first(let count)), (.first(let count), .range(let some)):
        overlaps = some.lowerBound < count
      case (.first, .last), (.last, .first), (.range, .last), (.last, .range): overlaps = false
      }
      guard !overlaps else {
        throw SelectionError(
          "'\(self)' overlaps '\(other)' of the same list",
          advice: "select each index once"
        )
      }
    }
  }
}

/// What is wrong with a selection, still without a place.
struct SelectionError: Error {
  var message: String
  var hint: String?
  var advice: String?

  init(_ message: String, hint: String? = nil, advice: String? = nil) {
    self.message = message
    self.hint = hint
    self.advice = advice
  }
}
