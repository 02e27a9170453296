import Foundation
import MutationSupport
import NibbleCodec
import NibblePolicy
import Testing

/// A policy with one mistake, and the error that must come of it.
struct WrongPolicy: CustomTestStringConvertible {
  var yaml: String
  var line: Int
  var column: Int
  var message: String
  var hint: String?
  var testDescription: String { message }

  /// A correct head of three lines, then `body`: its first line is line 4.
  static func after(
    _ body: String,
    _ line: Int,
    _ column: Int,
    _ message: String,
    hint: String? = nil
  ) -> WrongPolicy {
    let yaml = "version: 1\nkeys: int8\nvalues: int8\n" + body
    return WrongPolicy(yaml: yaml, line: line, column: column, message: message, hint: hint)
  }

  static func whole(
    _ yaml: String,
    _ line: Int,
    _ column: Int,
    _ message: String,
    hint: String? = nil
  ) -> WrongPolicy {
    WrongPolicy(yaml: yaml, line: line, column: column, message: message, hint: hint)
  }
}

@Suite struct WrongPolicyTests {
  @Test(arguments: wholes + numbers + codecs + rules)
  func mistakesAreFoundWhereTheyStand(wrong: WrongPolicy) throws {
    let error = try #require(
      policyError { () throws(PolicyError) in try Policy(yaml: wrong.yaml, file: "p.yaml") },
      "\(wrong.yaml)"
    )
    #expect(error.description.contains(wrong.message), "\(error)")
    #expect(error.hint == wrong.hint, "\(error)")
    #expect(error.file == "p.yaml")
    #expect(error.line == wrong.line, "\(error)")
    #expect(error.column == wrong.column, "\(error)")
  }

  @Test func errorsReadLikeACompilersWithAHint() throws {
    let yaml = "version: 1\nkeys: rotatd:4\nvalues: int8\n"
    let error = try #require(
      policyError { () throws(PolicyError) in try Policy(yaml: yaml, file: "folder/p.yaml") }
    )
    #expect("\(error)" == "folder/p.yaml:2:7: unknown codec 'rotatd'; did you mean 'rotated'?")
    let nameless = policyError { () throws(PolicyError) in try Policy(yaml: yaml) }
    #expect(nameless?.description.hasPrefix("line 2, column 7: unknown codec") == true)
  }

  @Test func filesHaveALimit() throws {
    let comment = "#" + String(repeating: " ", count: Policy.fileByteLimit)
    let yaml = "version: 1\nkeys: int8\nvalues: int8\n" + comment
    let error = try #require(policyError { () throws(PolicyError) in try Policy(yaml: yaml) })
    #expect(error.message.contains("expected at most 1048576"))
  }

  @Test func deepNestingIsAnErrorAndNoCrash() {
    let yaml = "version: 1\nkeys: " + String(repeating: "[", count: 200_000)
    #expect(throws: PolicyError.self) { try Policy(yaml: yaml) }
  }

  @Test func mutatedFiles() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let mutated = folder.appendingPathComponent("policy")
    let names = try FileManager.default.contentsOfDirectory(atPath: exampleFolder).sorted()
    let originals = try names.map {
      [UInt8](try Data(contentsOf: URL(filePath: exampleFolder + $0)))
    }
    var random = SeededGenerator(seed: 7)
    var report = MutationReport(of: "policies")
    for _ in 0..<MutationReport.count(orElse: 1_000) {
      var bytes = try #require(originals.randomElement(using: &random))
      switch Int.random(in: 0..<8, using: &random) {
      case 0: Mutation.cut(&bytes, using: &random)
      case 1: Mutation.change(&bytes, in: 0..<bytes.count, using: &random)
      default: Mutation.changeText(&bytes, in: 0..<bytes.count, using: &random)
      }
      try Data(bytes).write(to: mutated)
      report.add(byteCount: bytes.count) {
        let policy = try Policy(contentsOf: mutated.path)
        // What was read can be written, and read again.
        #expect(try Policy(yaml: policy.yaml) == policy)
        _ = try Plan(policy: policy, shape: .sample)
      }
    }
    print(report)
    #expect(report.read > 0 && report.refused > report.read / 10)
    #expect(report.mostBytes <= 64 << 20)
  }

  static let wholes: [WrongPolicy] = [
    .whole("", 1, 1, "the policy is empty"),
    .whole("# nothing\n", 1, 1, "the policy is empty"),
    .whole("balanced\n", 1, 1, "a policy is a mapping of keys and values, not 'balanced'"),
    .whole("- version: 1\n", 1, 1, "a policy is a mapping of keys and values, not a list"),
    .whole("keys: int8\nvalues: int8\n", 1, 1, "missing key 'version'"),
    .whole("version: 1\nvalues: int8\n", 1, 1, "missing key 'keys'"),
    .whole("version: 1\nkeys: int8\n", 1, 1, "missing key 'values'"),
    .whole(
      "versoin: 1\nkeys: int8\nvalues: int8\n",
      1,
      1,
      "unknown key 'versoin'",
      hint: "version"
    ),
    .whole(
      "version: 2\npages: 3\n",
      1,
      10,
      "'version' is 2; this library reads version 1",
      hint: "1"
    ),
    .whole("version: one\n", 1, 10, "'version' is 'one'; expected a whole number"),
    .whole("version: \"1\"\n", 1, 10, "'version' is '1'; expected a whole number"),
    .whole("version: 1\nkeys: [int8\n", 3, 1, "not YAML: while parsing a flow sequence"),
    .whole("version: 1\n\tkeys: int8\n", 2, 1, "not YAML: "),
    .whole("version: 1\nkeys: int8\n---\nversion: 1\n", 3, 1, "found another document"),
    .whole("version: 1\nkeys: *codec\n", 2, 7, "found undefined alias"),
    .whole("version: 1\nname: a\u{1}b\n", 2, 8, "control characters"),
    .whole("version: 1\nkeys: int8\nkeys: int8\n", 2, 1, "key 'keys' stands twice in one mapping"),
    .whole("{\"version\": 1, \"keyz\": 2}\n", 1, 16, "unknown key 'keyz'", hint: "keys"),
    .whole("version: 1\n? [a]\n: b\n", 2, 3, "a key of a policy is a word, not a list"),
  ]

  static let numbers: [WrongPolicy] = [
    .after("page_token: 64\n", 4, 1, "unknown key 'page_token'", hint: "page_tokens"),
    .after("colour: red\n", 4, 1, "unknown key 'colour' in a policy"),
    .after("ages: []\n", 4, 7, "'ages' is empty"),
    .after("ages: 3\n", 4, 7, "'ages' is '3'; expected a list of ages"),
    .after("ages:\n  - keys: int8\n", 5, 5, "'beyond'"),
    .after("ages:\n  - beyond: 100\n", 5, 5, "age 1 changes nothing"),
    .after("ages:\n  - beyond: 100\n    key: int8\n", 6, 5, "unknown key 'key'", hint: "keys"),
    .after("ages:\n  - beyond: x\n    keys: int8\n", 5, 13, "'beyond'"),
    .after("page_tokens: 50\n", 4, 14, "expected 16, 32, 48 or a multiple of 64", hint: "48"),
    .after("page_tokens: 2048\n", 4, 14, "'page_tokens' is 2048", hint: "1024"),
    .after("page_tokens: 64.0\n", 4, 14, "'page_tokens' is '64.0'; expected a whole number"),
    .after("sinks: -4\n", 4, 8, "'sinks' is -4; expected 0 to 1024", hint: "0"),
    .after("recent: 65537\n", 4, 9, "'recent' is 65537; expected 0 to 65536", hint: "65536"),
    .after("recent:\n", 4, 8, "'recent' is empty; expected a whole number"),
    .after("recent: [64]\n", 4, 9, "'recent' is a list; expected a whole number"),
    .after("recent: 0x40\n", 4, 9, "'recent' is '0x40'; expected a whole number"),
    .after("recent: 99999999999999999999\n", 4, 9, "expected a whole number"),
    .after("skip_below: 0.5\n", 4, 13, "'skip_below' is 0.5; expected at least 0.0 and below 0.5"),
    .after("skip_below: -0.1\n", 4, 13, "'skip_below' is -0.1; expected at least 0.0"),
    .after("skip_below: nan\n", 4, 13, "'skip_below' is 'nan'; expected a number"),
    .after("skip_below: 0x1\n", 4, 13, "'skip_below' is '0x1'; expected a number"),
    .after("skip_below: 1e999\n", 4, 13, "expected a number"),
    .after("skip_below: '0.1'\n", 4, 13, "'skip_below' is '0.1'; expected a number"),
    .after("skip_bellow: 0.1\n", 4, 1, "unknown key 'skip_bellow'", hint: "skip_below"),
    .after("name: [a]\n", 4, 7, "'name' is a list; expected one word"),
    .after("name: ''\n", 4, 7, "'name' is empty"),
    .after("name: \"a\\nb\"\n", 4, 7, "'name' has control characters"),
    .after("exact_rows: int8\n", 4, 13, "expected float32, float16, bfloat16"),
    .after("exact_rows: float61\n", 4, 13, "'exact_rows' is 'float61'", hint: "float32"),
  ]

  static let codecs: [WrongPolicy] = [
    .whole("version: 1\nkeys: liner:4\nvalues: int8\n", 2, 7, "codec 'liner'", hint: "linear"),
    .whole("version: 1\nkeys: int8\nvalues: rotated:5\n", 3, 9, "'5' bits", hint: "4"),
    .whole("version: 1\nkeys: rotated:four\nvalues: int8\n", 2, 7, "'four' bits"),
    .whole("version: 1\nkeys: [int8]\nvalues: int8\n", 2, 7, "'keys' is a list; expected a codec"),
    .whole("version: 1\nkeys:\nvalues: int8\n", 2, 6, "'keys' is empty; expected a codec"),
    .whole(
      "version: 1\nkeys: { codec: linear, bits: 7 }\nvalues: int8\n",
      2,
      30,
      "'7' bits",
      hint: "8"
    ),
    .whole("version: 1\nkeys: { bits: 4 }\nvalues: int8\n", 2, 7, "missing key 'codec'"),
    .whole("version: 1\nkeys: { kodec: linear }\nvalues: int8\n", 2, 9, "'kodec'", hint: "codec"),
    .whole(
      "version: 1\nkeys: { codec: linear, axes: token }\nvalues: int8\n",
      2,
      24,
      "unknown key 'axes' in a codec",
      hint: "axis"
    ),
    .whole(
      "version: 1\nkeys:\n  codec: linear\n  axis: tokens\nvalues: int8\n",
      4,
      9,
      "option 'axis' cannot be 'tokens'",
      hint: "token"
    ),
    .whole(
      "version: 1\nkeys: { codec: linear, group: 17 }\nvalues: int8\n",
      2,
      31,
      "a multiple of 16"
    ),
    .whole(
      "version: 1\nkeys: { codec: linear, zero_point: no }\nvalues: int8\n",
      2,
      36,
      "expected true, false"
    ),
    .whole(
      "version: 1\nkeys: { codec: linear, mean: remove }\nvalues: int8\n",
      2,
      30,
      "'mean' cannot be 'remove'",
      hint: "removed"
    ),
    .whole(
      "version: 1\nkeys: { codec: linear, mean: [x] }\nvalues: int8\n",
      2,
      30,
      "'mean' is a list"
    ),
    .whole(
      "version: 1\nkeys: { codec: 'linear:4', bits: 3 }\nvalues: int8\n",
      2,
      34,
      "bits are given twice"
    ),
  ]

  static let rules: [WrongPolicy] = [
    .after("rules:\n", 4, 7, "'rules' is empty; expected a list of rules"),
    .after("rules: []\n", 4, 8, "'rules' is empty; leave the key out"),
    .after("rules: { keys: int8 }\n", 4, 8, "'rules' is a mapping; expected a list"),
    .after("rules:\n  - int8\n", 5, 5, "rule 1 is a mapping of keys and values, not 'int8'"),
    .after("rules:\n  - {}\n", 5, 5, "rule 1 changes nothing"),
    .after("rules:\n  - layers: 0\n", 5, 5, "rule 1 changes nothing; give it 'keys' or 'values'"),
    .after("rules:\n  - layer: 0\n    keys: int8\n", 5, 5, "unknown key 'layer'", hint: "layers"),
    .after(
      "rules:\n  - heads: 0\n    keys: int8\n",
      5,
      5,
      "unknown key 'heads' in a rule",
      hint: "kv_heads"
    ),
    .after("rules:\n  - keys: int9\n", 5, 11, "unknown codec 'int9'", hint: "int8"),
    .after(
      "rules:\n  - keys: int8\n  - layers: lst 2\n    keys: int8\n",
      6,
      13,
      "'lst 2' is no selection",
      hint: "last 2"
    ),
    .after(
      "rules:\n  - layers: last\n    keys: int8\n",
      5,
      13,
      "'last' needs a count",
      hint: "last 1"
    ),
    .after("rules:\n  - layers: last 0\n    keys: int8\n", 5, 13, "a count from 1 up"),
    .after("rules:\n  - layers: 5-2\n    keys: int8\n", 5, 13, "runs backwards", hint: "2-5"),
    .after("rules:\n  - layers: -1\n    keys: int8\n", 5, 13, "'-1' is no index"),
    .after("rules:\n  - layers: 1-2-3\n    keys: int8\n", 5, 13, "'1-2-3' is no index"),
    .after(
      "rules:\n  - layers: 0-1, last 2\n    keys: int8\n",
      5,
      13,
      "is no selection, but several",
      hint: "[0-1, last 2]"
    ),
    .after("rules:\n  - layers: []\n    keys: int8\n", 5, 13, "'layers' is empty"),
    .after("rules:\n  - layers: [0, [1]]\n    keys: int8\n", 5, 17, "'layers' is a list; expected"),
    .after("rules:\n  - kv_heads: [0, x]\n    keys: int8\n", 5, 19, "'x' is no selection"),
    .after(
      "rules:\n  - layers: 0\n    layers: 1\n    keys: int8\n",
      5,
      5,
      "key 'layers' stands twice"
    ),
  ]
}
