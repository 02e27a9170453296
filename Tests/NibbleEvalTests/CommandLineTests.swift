#if os(Linux) || os(macOS)
import Foundation
import Testing

@testable import NibbleEval

/// Runs the program as a user would.
@Suite(.enabled(if: Program.path != nil, "the nibble program is built beside the tests"))
struct CommandLineTests {
  @Test(arguments: [
    ["eval", "--policy", "rotatd:4"], ["compare", "exact,linear:5"], ["plan", "--policies", ""],
    ["eval", "--model", "no/such"],
    ["eval", "--text", "no/such"], ["generate", "--prompt", "a", "--top-p", "2"],
    ["bench", "decode", "--context", "0"], ["bench", "decode", "--head-dim", "7"],
    ["bench", "prefill", "--chunk", "0"], ["bench", "seal", "--layers", "0"],
    ["bench", "scaling", "--contexts", "0"], ["bench", "prefix", "--tokens", "1"],
    [
      "bench", "scaling", "--contexts", "16777216", "--policies", "float32,float32,float32,float32",
    ],
    ["plan", "--layers", "2", "--kv-heads", "3", "--query-heads", "4", "--head-dim", "64"],
    ["generate", "--prompt", "a", "--budget", "1KiB", "--json"],
    ["generate", "--prompt", "a", "--budget", "1GiB", "--disk", "no/such", "--json"],
    ["bench", "memory", "--context", "9000", "--layers", "1", "--budget", "10MiB"],
    ["report", "--out", "no/such/folder/report.html"],
    ["report", "--out", "report.html", "--probe", "rotatd:2"],
    ["tune", "--budget", "4bits", "--out", "no/such/folder/tuned.yaml"],
    ["logits", "--ids", "1,2048", "--out", "logits.f32"],
    ["logits", "--ids", "1", "--chunk", "1025", "--out", "logits.f32"],
    ["logits", "--ids", "1", "--out", "no/such/folder/logits.f32"],
    ["tune", "--budget", "4bits", "--out", "tuned.yaml", "--codecs", "rotated:4,rotatd:2"],
    ["tune", "--budget", "4bits", "--out", "tuned.yaml", "--least-same-top-1", "2"],
  ])
  func badInputIsStatus1WithOneLine(arguments: [String]) throws {
    let result = try Program.run(arguments)
    #expect(result.status == 1)
    #expect(result.output.isEmpty)
    #expect(result.errors.hasPrefix("Error: "))
    #expect(result.errors.split(separator: "\n").count == 1)
  }

  @Test(arguments: [
    ["evaluate"], ["eval", "--polcy", "exact"], ["bench", "decode", "--context", "many"],
    ["generate"], ["logits", "--ids", "1,x", "--out", "logits.f32"],
    ["eval", "--text", "a", "--tokens", "b"], ["plan", "--layers", "4"],
    ["compare", "exact", "--policies", "exact"], ["generate", "--prompt", "a", "--disk", "."],
    ["bench", "memory", "--budget", "2GiB", "--disk-limit", "1GiB"],
    ["bench", "memory", "--budget", "2 parsecs"], ["bench", "memory", "--budget", "-1"],
    ["bench", "memory", "--budget", "9999999999GiB"],
    ["report", "--quick"], ["tune", "--budget", "4bits"],
    ["tune", "--budget", "4", "--out", "tuned.yaml"],
    ["tune", "--budget", "4bits", "--out", "tuned.yaml", "--groups", "pages"],
  ])
  func wrongUsageIsStatus64(arguments: [String]) throws {
    let result = try Program.run(arguments)
    #expect(result.status == 64)
    #expect(result.errors.hasPrefix("Error: "))
  }

  @Test(arguments: [["policy", "explain"], ["plan", "--policies"], ["eval", "--policy"]])
  func wrongPolicyFilesAreToldAsCompilersDo(arguments: [String]) throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../NibblePolicyTests/WrongPolicies").standardizedFileURL.path
    for name in ["unknown-codec.yaml", "missing-layer.yaml", "key-twice.json"] {
      let path = "\(folder)/\(name)"
      let result = try Program.run(arguments + [path])
      #expect(result.status == 1 && result.output.isEmpty)
      let expected = try String(contentsOfFile: path + ".expected", encoding: .utf8)
      // The embedded model has four layers.
      let place = expected.split(separator: "error:")[0]
      #expect(result.errors.hasPrefix("\(folder)/\(place)error: "), "\(result.errors)")
      #expect(name == "missing-layer.yaml" || result.errors == "\(folder)/" + expected)
    }
    let missing = try Program.run(arguments + ["no/such.yaml"])
    #expect(missing.status == 1 && missing.errors.hasPrefix("no/such.yaml: error: "))
    #expect(missing.errors.contains("\nhint: "))
  }

  @Test func misspeltPoliciesGetAHint() throws {
    let result = try Program.run(["eval", "--policy", "rotatd:4"])
    #expect(result.errors.contains("did you mean 'rotated'?"))
  }

  @Test(arguments: [
    ["plan", "--context", "4096", "--json"], ["policy", "explain", "balanced", "--json"],
    ["eval", "--documents", "1", "--max-text-tokens", "300", "--max-questions", "1", "--json"],
    ["compare", "exact,linear:4", "--positions", "200", "--max-questions", "0", "--json"],
    ["generate", "--prompt", "The boat", "--max-tokens", "3", "--json"],
    ["bench", "encode", "--codecs", "rotated:4", "--head-dim", "64", "--json"],
    ["bench", "memory", "--context", "1024", "--layers", "1", "--json"],
    ["bench", "prefill", "--context", "300", "--policies", "rotated:4", "--runs", "1", "--json"],
    ["bench", "seal", "--tokens", "200", "--policies", "rotated:4", "--runs", "1", "--json"],
    ["bench", "prefix", "--tokens", "200", "--policies", "rotated:4", "--runs", "1", "--json"],
  ])
  func jsonIsOneObject(arguments: [String]) throws {
    let result = try Program.run(arguments)
    #expect(result.status == 0)
    let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
    #expect(object is [String: Any])
    // No terminal, no progress bar.
    #expect(result.errors.isEmpty)
  }

  @Test func reportIsAPageAndItsData() throws {
    let file = FileManager.default.temporaryDirectory
      .appendingPathComponent("\(UUID().uuidString).html")
    defer { try? FileManager.default.removeItem(at: file) }
    let policy = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Specs/examples/policies/keys-eight-values-four.yaml")
      .standardizedFileURL.path
    let result = try Program.run([
      "report", "--quick", "--out", file.path, "--policies", "\(policy),rotated:3", "--contexts",
      "256",
      "--max-text-tokens", "200", "--json",
    ])
    #expect(result.status == 0 && result.errors.isEmpty, "\(result.errors)")
    let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
    let report = try #require(object as? [String: Any])
    #expect(report["path"] as? String == file.path)
    let pages = try #require(report["pages"] as? [[String: Any]])
    #expect(pages.map { $0["policy"] as? String } == ["keys-eight-values-four", "rotated:3"])
    let html = try String(contentsOf: file, encoding: .utf8)
    #expect(html.hasPrefix("<!doctype html>") && html.hasSuffix("</html>\n"))
    #expect(html.components(separatedBy: "<figure ").count == 9)
    #expect(html.utf8.count < 3_000_000)
  }

  @Test func comparisonIsATable() throws {
    let result = try Program.run([
      "compare", "exact,linear:4", "--positions", "300", "--max-questions", "0",
    ])
    let lines = result.output.split(separator: "\n")
    #expect(lines.count == 5)
    #expect(lines[3].hasPrefix("exact ") && lines[4].hasPrefix("linear:4 "))
  }

  @Test func comparisonOfCodecsRefusesWhatDoesNotFit() throws {
    for (arguments, word) in [
      (["compare", "--data", "normal"], "--codecs"),
      (["compare", "--codecs", "--data", "normal", "--baseline", "int8"], "--baseline"),
      (["compare", "int8", "--baseline", "int4", "--positions", "100"], "int4"),
    ] {
      let result = try Program.run(arguments)
      #expect(result.status != 0 && result.errors.contains(word))
    }
  }

  @Test func sessions() throws {
    func object(_ arguments: [String], status: Int32 = 0) throws -> [String: Any] {
      let result = try Program.run(["sessions"] + arguments + ["--json"])
      #expect(result.status == status, "\(result.errors)")
      let data = Data(result.output.utf8)
      return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Specs/vectors/sessions").standardizedFileURL.path
    let example = "\(folder)/example.session"
    let list = try object(["list", folder])
    let rows = try #require(list["rows"] as? [[String: Any]])
    let row = try #require(rows.first { $0["file"] as? String == "example.session" })
    #expect(Set(row.keys) == ["file", "bytes", "tokens", "generation", "fingerprint", "error"])
    #expect(row["tokens"] as? Int == 17)
    // What is no session is not in the list; what is a damaged one is.
    #expect(!rows.contains { $0["file"] as? String == "a-text.session" })
    #expect(rows.contains { $0["file"] as? String == "cut-off.session" && $0["error"] is String })
    let show = try object(["show", example])
    #expect(
      Set(show.keys) == [
        "path", "bytes", "generation", "tokens", "token_ids", "layers", "query_heads", "kv_heads",
        "head_dim", "fingerprint", "page_tokens", "sinks", "recent", "codecs", "calibration",
        "pages",
        "page_bytes", "unused_bytes", "unfinished_bytes", "library_version", "policy",
      ]
    )
    #expect(show["codecs"] as? [String] == ["float32", "linear:4"])
    let verified = try object(["verify", example])
    #expect(Set(verified.keys) == ["path", "pages", "page_bytes", "faults"])
    #expect((verified["faults"] as? [String])?.isEmpty == true)
    for name in ["damaged-page", "older-index", "short-frame"] {
      let verified = try object(["verify", "\(folder)/\(name).session"], status: 1)
      #expect((verified["faults"] as? [String])?.count == 1)
    }
    #expect(try Program.run(["sessions", "verify", "\(folder)/flags.session"]).status == 1)
  }

  @Test func exportedRowsAreThoseOfTheSession() throws {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Specs/vectors/sessions").standardizedFileURL.path
    let out = FileManager.default.temporaryDirectory
      .appendingPathComponent("\(UUID().uuidString).safetensors")
    defer { try? FileManager.default.removeItem(at: out) }
    let result = try Program.run([
      "sessions", "export", "\(folder)/example.session", "--out", out.path,
    ])
    #expect(result.status == 0 && result.output.contains("3 tensors, 17 tokens"))
    let data = try Data(contentsOf: out)
    let start = 8 + Int(data.prefix(8).withUnsafeBytes { $0.load(as: UInt64.self) })
    let header = try #require(
      try JSONSerialization.jsonObject(with: data[8..<start]) as? [String: [String: Any]]
    )
    #expect(header["layers.0.values"]?["shape"] as? [Int] == [17, 1, 8])
    #expect(header["token_ids"]?["dtype"] as? String == "I32")
    let offsets = try #require(header["layers.0.keys"]?["data_offsets"] as? [Int])
    let keys = data[(start + offsets[0])..<(start + offsets[1])].withUnsafeBytes {
      Array($0.bindMemory(to: Float.self))
    }
    // The rows of the example in Specs/page-layout.md; the last token is exact.
    #expect(Array(keys[..<8]) == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5, 6])
    #expect(Array(keys[128...]) == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5, 6])
  }

  /// A prompt that is longer than the budget has the same answer as without one.
  @Test func whatTheBudgetHasNoRoomForGoesToDisk() throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("nibble-tiers-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let prompt = folder.appendingPathComponent("prompt").path
    let text = String(repeating: "Ada went to the harbour and looked at the boats. ", count: 200)
    try text.write(toFile: prompt, atomically: true, encoding: .utf8)
    let arguments = ["generate", "--prompt-file", prompt, "--policy", "exact", "--max-tokens", "5"]
    func report(_ options: [String]) throws -> [String: Any] {
      let result = try Program.run(arguments + options + ["--json"])
      #expect(result.status == 0, "\(result.errors)")
      let data = Data(result.output.utf8)
      return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    }
    let free = try report([])
    let tight = try report(["--budget", "8MiB", "--disk", folder.path, "--disk-limit", "1gib"])
    #expect(try #require(free["prompt_tokens"] as? Int) > 2_000)
    #expect(free["text"] as? String == tight["text"] as? String)
    #expect(free["cache_bytes"] as? Int == tight["cache_bytes"] as? Int)
    let all = try #require(free["tiers"] as? [String: Int])
    let tiers = try #require(tight["tiers"] as? [String: Int])
    #expect(all["disk_bytes"] == 0)
    #expect(try #require(all["memory_bytes"]) > 8 << 20)
    #expect(try #require(tiers["memory_bytes"]) <= 8 << 20)
    #expect(try #require(tiers["disk_bytes"]) > 0)
    // The file has no name.
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["prompt"])
    #expect(try Program.run(arguments + ["--budget", "8MiB"]).status == 1)
  }

  @Test func generationIsGreedyAndSeeded() throws {
    let arguments = ["generate", "--prompt", "The boat", "--max-tokens", "8", "--policy", "exact"]
    let first = try Program.run(arguments)
    #expect(first.output.hasPrefix("The boat"))
    #expect(try Program.run(arguments).output == first.output)
    let sampled = arguments + ["--temperature", "1", "--seed", "5"]
    #expect(try Program.run(sampled).output == Program.run(sampled).output)
  }
}

/// The program that was built with the tests.
enum Program {
  struct Result {
    var status: Int32
    var output: String
    var errors: String
  }

  static let path: String? = {
    let tests = URL(fileURLWithPath: Bundle.main.executablePath ?? CommandLine.arguments[0])
    var directory = tests.resolvingSymlinksInPath().deletingLastPathComponent()
    // On Apple platforms the tests lie in a bundle, or are run by a tool from elsewhere.
    let bundles = Bundle.allBundles.filter { $0.bundlePath.hasSuffix(".xctest") }
    if let bundle = bundles.first { directory = bundle.bundleURL.deletingLastPathComponent() }
    let path = directory.appendingPathComponent("nibble").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  static func run(_ arguments: [String]) throws -> Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(path))
    process.arguments = arguments
    let output = Pipe()
    let errors = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    // Less than a pipe holds comes from standard error, so reading one after the other cannot
    // block.
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let messages = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Result(
      status: process.terminationStatus,
      output: String(decoding: text, as: UTF8.self),
      errors: String(decoding: messages, as: UTF8.self)
    )
  }
}
#endif
