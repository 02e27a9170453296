import CTestSupport
import Foundation

/// What became of mutated files of one kind, and what it took to read them.
package struct MutationReport: CustomStringConvertible {
  private let kind: String
  /// Files that were read.
  package private(set) var read = 0
  /// Files that were refused, by the name of the error.
  package private(set) var refusals: [String: Int] = [:]
  /// The most memory that one file took beyond its own bytes; 0 where that cannot be measured.
  package private(set) var mostBytes = 0
  private var longest = Duration.zero

  package init(of kind: String) { self.kind = kind }

  /// How many files to read: as many as `NIBBLE_MUTATIONS` says, or a few.
  package static func count(orElse few: Int) -> Int {
    ProcessInfo.processInfo.environment["NIBBLE_MUTATIONS"].flatMap(Int.init) ?? few
  }

  package var refused: Int { refusals.values.reduce(0, +) }

  /// Reads one file, which `body` refuses by throwing.
  package mutating func add(byteCount: Int, _ body: () throws -> Void) {
    let start = ContinuousClock.now
    _ = test_peak_bytes()
    do {
      try body()
      read += 1
    } catch {
      refusals[Self.name(of: error), default: 0] += 1
    }
    if test_can_measure_allocations() {
      mostBytes = max(mostBytes, Int(test_peak_bytes()) - byteCount)
    }
    longest = max(longest, ContinuousClock.now - start)
  }

  package var description: String {
    let names = refusals.sorted { ($1.value, $0.key) < ($0.value, $1.key) }
    let most = names.prefix(24).map { "\n  \($0.value) \($0.key)" }.joined()
    let others = names.dropFirst(24).reduce(0) { $0 + $1.value }
    return """
      mutations of \(kind): \(read + refused) files, \(read) read, \(refused) refused; at most \(mostBytes) bytes beyond \
      the file's own and \(longest) for one\(most)\(others > 0 ? "\n  \(others) others" : "")
      """
  }

  /// The path of cases of an enumeration, or a message without what it quotes and counts.
  private static func name(of error: any Error) -> String {
    let mirror = Mirror(reflecting: error)
    guard mirror.displayStyle == .enum else {
      return withoutDetails(mirror.descendant("message") as? String ?? "\(error)")
    }
    guard let (label, value) = mirror.children.first else { return "\(error)" }
    let name = label ?? "\(error)"
    return (value as? any Error).map { "\(name).\(Self.name(of: $0))" } ?? name
  }

  private static func withoutDetails(_ message: String) -> String {
    let unquoted = message.split(separator: "'", omittingEmptySubsequences: false).enumerated()
      .map { $0.offset % 2 == 0 ? String($0.element) : "…" }
      .joined(separator: "'")
    return String(unquoted.map { $0.isNumber ? "0" : $0 }.prefix(60))
  }
}
