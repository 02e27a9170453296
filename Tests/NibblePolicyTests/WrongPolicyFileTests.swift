import Foundation
import NibbleCodec
import NibblePolicy
import Testing

/// Wrong policies in files, each with the message that it is refused with beside it.
@Suite struct WrongPolicyFileTests {
  static let folder =
    #filePath.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/WrongPolicies"

  static let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
    .filter { !$0.hasSuffix(".expected") }.sorted()

  @Test(arguments: names)
  func filesAreRefusedWithPlaceAndHint(name: String) throws {
    try check(name, at: "\(Self.folder)/\(name)")
  }

  @Test func thereAreManyAndEachMessageHasAFile() throws {
    #expect(Self.names.count >= 80)
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder)
    let expected = Set(files.filter { $0.hasSuffix(".expected") })
    let known = Self.names + Self.large.map(\.name)
    #expect(expected == Set(known.map { $0 + ".expected" }))
  }

  /// Too large for the repository.
  static let large: [(name: String, text: String)] = {
    let head = "version: 1\nkeys: int8\nvalues: "
    return [
      ("many-megabytes.yaml", head + "int8\n" + String(repeating: "# more\n", count: 700_000)),
      ("deep.yaml", head + String(repeating: "[", count: 200_000)),
      ("deep.json", "{\"version\": " + String(repeating: "{\"a\":", count: 150_000)),
    ]
  }()

  @Test(arguments: large)
  func largeFilesAreRefused(name: String, text: String) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("nibble-policies-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let path = folder.appendingPathComponent(name).path
    try text.write(toFile: path, atomically: false, encoding: .utf8)
    try check(name, at: path)
  }

  /// Notepad writes it.
  @Test func aByteOrderMarkAtTheStartIsNoMistake() throws {
    let policy = try Policy(yaml: "\u{FEFF}version: 1\nkeys: int8\nvalues: int8\n")
    #expect(policy.keys == .int8)
  }

  @Test func aliasesMeanWhatTheyStandFor() throws {
    let rules = (0..<100).map { "  - { layers: \($0), keys: *fine, values: *coarse }\n" }.joined()
    let yaml = """
      version: 1
      keys: &fine { codec: rotated, bits: 4, mean: removed }
      values: &coarse { codec: rotated, bits: 3 }
      rules:

      """
    let policy = try Policy(yaml: yaml + rules)
    #expect(policy.rules.count == 100 && policy.rules.allSatisfy { $0.keys == policy.keys })
  }

  private func check(_ name: String, at path: String) throws {
    let error = try #require(
      policyError { () throws(PolicyError) in
        try Plan(policy: Policy(contentsOf: path), shape: .sample)
      }
    )
    let expected = try String(contentsOfFile: "\(Self.folder)/\(name).expected", encoding: .utf8)
    #expect(error.diagnostic.replacing(path, with: name) + "\n" == expected)
    #expect(error.file == path && error.line != nil && error.column != nil)
    #expect(error.diagnostic.contains("\nhint: "))
  }
}
