/// Lets text through except what may still turn out to be a stop string.
///
/// Works on UTF-8, so a stop string matches wherever its bytes stand, whatever combining
/// characters follow it.
struct StopStringFilter: Sendable {
  /// What became certain with a piece of text.
  struct Outcome: Hashable, Sendable {
    var text: String
    var stopString: String?
  }

  private let stopStrings: [(text: String, bytes: [UInt8])]
  private var held: [UInt8] = []

  init(stopStrings: [String]) {
    self.stopStrings = stopStrings.filter { !$0.isEmpty }.map { ($0, Array($0.utf8)) }
  }

  /// Takes whole characters; returns the text before a stop string, or all that cannot be part of
  /// one.
  mutating func append(_ text: String) -> Outcome {
    held += text.utf8
    if let (start, stopString) = firstMatch() {
      defer { held = [] }
      return Outcome(text: String(decoding: held[..<start], as: UTF8.self), stopString: stopString)
    }
    let certain = firstPossibleStart()
    defer { held.removeFirst(certain) }
    return Outcome(text: String(decoding: held[..<certain], as: UTF8.self), stopString: nil)
  }

  /// Returns the text that waits, since no more will come.
  mutating func finish() -> String {
    defer { held = [] }
    return String(decoding: held, as: UTF8.self)
  }

  private func firstMatch() -> (start: Int, stopString: String)? {
    for start in held.indices {
      for (text, bytes) in stopStrings where held[start...].starts(with: bytes) {
        return (start, text)
      }
    }
    return nil
  }

  /// The first index from which the rest is the beginning of a stop string.
  private func firstPossibleStart() -> Int {
    let longest = stopStrings.map(\.bytes.count).max() ?? 0
    for start in held.indices.suffix(longest)
    where stopStrings.contains(where: { $0.bytes.starts(with: held[start...]) }) {
      return start
    }
    return held.count
  }
}
