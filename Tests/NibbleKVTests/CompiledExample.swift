import Foundation
import Testing

/// Lines of a test file that a document shows.
enum CompiledExample {
  /// The repository.
  static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  /// The lines between `// NAME: begin` and `// NAME: end`, without the indentation of these marks, for each pair of them.
  static func blocks(marked name: String, in file: String) throws -> [[String]] {
    let source = try String(contentsOfFile: file, encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false)
    var blocks: [[String]] = []
    var indent: Int?
    for line in source {
      if line.hasSuffix("// \(name): begin") {
        indent = line.prefix { $0 == " " }.count
        blocks.append([])
      } else if line.hasSuffix("// \(name): end") {
        indent = nil
      } else if let indent {
        blocks[blocks.count - 1].append(String(line.dropFirst(indent)))
      }
    }
    try #require(indent == nil, "'\(name): end' is missing")
    return blocks
  }
}
