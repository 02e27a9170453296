#if os(Linux) || os(macOS)
import Foundation
import Testing

@testable import NibbleEval

/// Runs the program as a user would.
@Suite(.enabled(if: Program.path != nil, "the nibble program is built beside the tests"))
struct CommandLineTests {
  @Test(arguments: [
    ["eval", "--policy", "rotatd:4"], ["compare", "exact,linear:5"], ["plan", "--policies", ""],
    ["policy", "explain", "no/such.yaml"], ["eval", "--model", "no/such"],
    ["eval", "--text", "no/such"], ["generate", "--prompt", "a", "--top-p", "2"],
    ["bench", "decode", "--context", "0"], ["bench", "decode", "--head-dim", "7"],
    ["bench", "prefill", "--chunk", "0"], ["bench", "seal", "--layers", "0"],
    ["bench", "scaling", "--contexts", "0"], ["bench", "prefix", "--tokens", "1"],
    [
      "bench", "scaling", "--contexts", "16777216", "--policies", "float32,float32,float32,float32",
    ],
    ["plan", "--layers", "2", "--kv-heads", "3", "--query-heads", "4", "--head-dim", "64"],
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
    ["generate"], ["eval", "--text", "a", "--tokens", "b"], ["plan", "--layers", "4"],
    ["compare", "exact", "--policies", "exact"],
  ])
  func wrongUsageIsStatus64(arguments: [String]) throws {
    let result = try Program.run(arguments)
    #expect(result.status == 64)
    #expect(result.errors.hasPrefix("Error: "))
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
