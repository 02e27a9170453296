import Foundation
import NibbleFiles
import NibbleKV
import Testing

@testable import NibbleFiles
@testable import NibbleLlama

/// What `make_fixtures.py` made.
enum Fixtures {
  static let checkpoints = [
    "llama-tied-f32", "llama-sharded-bf16", "qwen2-f16", "qwen3-bf16", "mistral-mixed",
  ]
  static let tokenizers = ["llama3", "qwen2", "gpt2", "digits", "harbour-3m"]

  static func path(_ name: String) throws -> String {
    let folder = try #require(Bundle.module.url(forResource: "Fixtures", withExtension: nil))
    return folder.appendingPathComponent(name).path
  }

  static func directory(_ name: String) throws -> ModelDirectory {
    ModelDirectory(path: try path(name))
  }

  /// Token ids and the logits that transformers computes for them, `[tokens, vocabulary]`.
  static func expected(_ name: String) throws -> (tokens: [Int], logits: [Float]) {
    let file = try SafetensorsFile(path: path(name) + "/expected.safetensors")
    let tokens = try #require(file.tensors["tokens"])
    let logits = try #require(file.tensors["logits"])
    return (try file.floats(of: tokens).map { Int($0) }, try file.floats(of: logits))
  }

  /// The tokenizer file of a fixture; the embedded model's stands with the model.
  static func tokenizerPath(_ name: String) throws -> String {
    if name == "harbour-3m" { return harbour + "/tokenizer.json" }
    return try path("tokenizers/\(name).json")
  }

  private static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
  static let harbour = root.appendingPathComponent("Examples/Models/harbour-3m").path
  /// Sessions for other programs, and calibrations of theirs.
  static let sessions = root.appendingPathComponent("Specs/vectors/sessions").path
}

/// A directory that is gone with the object.
final class TemporaryDirectory {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory
      .appendingPathComponent("nibble-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }

  func write(_ data: Data, to name: String) throws {
    try data.write(to: URL(fileURLWithPath: path + "/" + name))
  }

  func write(_ text: String, to name: String) throws {
    try write(Data(text.utf8), to: name)
  }

  /// A copy of a checkpoint fixture that a test may damage.
  static func copy(of fixture: String) throws -> TemporaryDirectory {
    let directory = try TemporaryDirectory()
    let source = try Fixtures.path(fixture)
    for name in try FileManager.default.contentsOfDirectory(atPath: source) {
      try FileManager.default.copyItem(
        atPath: source + "/" + name,
        toPath: directory.path + "/" + name
      )
    }
    return directory
  }

  /// Changes `config.json`; nil removes a key.
  func editConfiguration(_ changes: [String: Any?]) throws {
    let path = path + "/config.json"
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    var values = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
    for (key, value) in changes { values[key] = value }
    try write(JSONSerialization.data(withJSONObject: values), to: "config.json")
  }
}

/// A safetensors file, byte by byte.
enum SafetensorsBytes {
  static func file(header: String, data: Data = Data()) -> Data {
    var bytes = Data()
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { bytes.append(contentsOf: $0) }
    return bytes + Data(header.utf8) + data
  }
}
