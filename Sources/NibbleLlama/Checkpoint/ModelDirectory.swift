public import Foundation
import NibbleFiles

/// A Hugging Face model directory: `config.json`, weights in one or many `.safetensors` files,
/// `tokenizer.json`.
public struct ModelDirectory: Sendable {
  /// The directory.
  public let path: String
  /// The directory's own name.
  public let name: String

  /// Names a directory; nothing is read yet.
  public init(path: String) {
    let url = URL(fileURLWithPath: path).standardizedFileURL
    self.path = url.path
    name = url.lastPathComponent
  }

  /// Names a directory; nothing is read yet.
  public init(url: URL) {
    self.init(path: url.path)
  }

  /// Reads and checks `config.json`.
  public func configuration() throws(CheckpointError) -> ModelConfiguration {
    try ModelConfiguration(path: file("config.json"))
  }

  /// Reads `tokenizer.json`, and the end tokens of `config.json` and `generation_config.json`.
  public func tokenizer() throws(CheckpointError) -> BytePairTokenizer {
    var endTokens: Set<Int> = []
    for name in ["config.json", "generation_config.json"] where exists(name) {
      endTokens.formUnion(try json(EndTokens.self, name).ids)
    }
    return try BytePairTokenizer(path: file("tokenizer.json"), endTokens: endTokens)
  }

  /// Opens the weights; they are read when they are asked for.
  func weights() throws(CheckpointError) -> CheckpointTensors {
    let index = "model.safetensors.index.json"
    guard exists(index) else {
      return CheckpointTensors(file: try safetensors("model.safetensors"))
    }
    let weightMap = try json(ShardIndex.self, index).weightMap
    var shards: [String: SafetensorsFile] = [:]
    for shard in Set(weightMap.values).sorted() {
      try checkShardName(shard)
      shards[shard] = try safetensors(shard)
    }
    return try CheckpointTensors(shards: shards, weightMap: weightMap)
  }

  /// An index is data from outside: it may not lead to other directories.
  private func checkShardName(_ name: String) throws(CheckpointError) {
    let isPlain = !name.utf8.contains { [UInt8(ascii: "/"), UInt8(ascii: "\\"), 0].contains($0) }
    guard isPlain, name.hasSuffix(".safetensors"), !name.hasPrefix(".") else {
      throw .shardOutsideDirectory(name: name)
    }
  }

  func file(_ name: String) -> String {
    path + "/" + name
  }

  private func json<Value: Decodable>(
    _ type: Value.Type,
    _ name: String
  ) throws(CheckpointError) -> Value {
    try reading { () throws(FileError) in try readJSON(type, path: file(name)) }
  }

  private func safetensors(_ name: String) throws(CheckpointError) -> SafetensorsFile {
    try reading { () throws(FileError) in try SafetensorsFile(path: file(name)) }
  }

  private func exists(_ name: String) -> Bool {
    FileManager.default.fileExists(atPath: file(name))
  }
}

/// `model.safetensors.index.json`.
private struct ShardIndex: Decodable {
  var weightMap: [String: String]

  private enum CodingKeys: String, CodingKey { case weightMap = "weight_map" }
}

/// `eos_token_id`: absent, null, a number or several.
private struct EndTokens: Decodable {
  var ids: Set<Int>

  private enum CodingKeys: String, CodingKey { case ids = "eos_token_id" }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    if let id = try? container.decodeIfPresent(Int.self, forKey: .ids) {
      ids = [id]
    } else {
      ids = Set(try container.decodeIfPresent([Int].self, forKey: .ids) ?? [])
    }
  }
}

/// All tensors of a checkpoint, wherever they stand.
struct CheckpointTensors: Sendable {
  private let files: [String: SafetensorsFile]

  init(file: SafetensorsFile) {
    files = file.tensors.mapValues { _ in file }
  }

  init(shards: [String: SafetensorsFile], weightMap: [String: String]) throws(CheckpointError) {
    var files: [String: SafetensorsFile] = [:]
    for (name, shard) in weightMap {
      guard let file = shards[shard], file.tensors[name] != nil else {
        throw .missingTensor(name: "\(name) in \(shard)")
      }
      files[name] = file
    }
    self.files = files
  }

  func contains(_ name: String) -> Bool {
    files[name] != nil
  }

  /// All names, sorted.
  var names: [String] { files.keys.sorted() }

  subscript(name: String) -> (file: SafetensorsFile, tensor: SafetensorsFile.Tensor)? {
    guard let file = files[name], let tensor = file.tensors[name] else { return nil }
    return (file, tensor)
  }

  /// A tensor of a shape, in a type that weights may have.
  func tensor(
    _ name: String,
    shape: [Int]
  ) throws(CheckpointError) -> (file: SafetensorsFile, tensor: SafetensorsFile.Tensor) {
    guard let (file, tensor) = self[name] else { throw .missingTensor(name: name) }
    guard tensor.shape == shape else {
      throw .wrongShape(tensor: name, shape: tensor.shape, expected: shape)
    }
    guard tensor.element.isWeight else {
      throw .unsupported(
        what: "the element type of tensor '\(name)'",
        value: tensor.element.rawValue,
        supported: "F32, F16, BF16"
      )
    }
    return (file, tensor)
  }
}
