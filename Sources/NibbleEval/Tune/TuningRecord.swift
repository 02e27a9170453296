import Foundation
import NibbleKV

/// What a tuner has measured so far, in a file that survives it.
///
/// The file is nobody else's to read; one that belongs to another model, text or start is replaced.
struct TuningRecord {
  private var contents: Contents
  private let path: String?

  private struct Contents: Codable, Hashable {
    var version = 1
    /// Names everything that a measurement depends on but the policy.
    var key: String
    var numbers: [String: Double] = [:]
    var rows: [String: [TuningRow]] = [:]
  }

  /// Opens a record.
  ///
  /// - Parameters:
  ///   - path: The file; `nil` keeps everything in memory.
  ///   - facts: What measurements depend on.
  init(path: String?, facts: [String]) {
    let key = Self.digest(facts)
    self.path = path
    contents = Contents(key: key)
    guard let path, let data = FileManager.default.contents(atPath: path),
      let kept = try? JSONDecoder().decode(Contents.self, from: data),
      kept.version == contents.version, kept.key == key
    else { return }
    contents = kept
  }

  subscript(name: String) -> Double? {
    get { contents.numbers[name] }
    set { contents.numbers[name] = newValue }
  }

  /// The rows of a comparison, which is named by all that it compares.
  subscript(comparison facts: [String]) -> [TuningRow]? {
    get { contents.rows[Self.digest(facts)] }
    set { contents.rows[Self.digest(facts)] = newValue }
  }

  /// Writes the file, all of it or nothing.
  ///
  /// - Throws: ``EvaluationError/unwritable(path:reason:)``.
  func save() throws(EvaluationError) {
    guard let path else { return }
    do {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      try encoder.encode(contents).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw .unwritable(path: path, reason: error.localizedDescription)
    }
  }

  private static func digest(_ facts: [String]) -> String {
    // Lengths keep neighbours apart.
    let text = facts.map { "\($0.utf8.count):\($0)" }.joined()
    return hexadecimal(NibbleKV.digest(of: text.utf8))
  }
}

extension [[Int]] {
  /// Names these tokens.
  var digest: String {
    let numbers = flatMap { [$0.count] + $0 }
    return hexadecimal(numbers.withUnsafeBytes { NibbleKV.digest(of: $0) })
  }
}
