public import Foundation
import NibbleFiles
public import NibbleKV

/// What a model's `config.json` says about its cache, whatever the model: which layers hold keys and values, in what shape,
/// and which do not.
///
/// No weights are needed, and no host for the model. Names of keys are those that Hugging Face's families use; what a
/// file leaves out has its family's default.
public struct ModelOutline: Hashable, Sendable {
  /// Layers that a cache of keys and values does not hold.
  public struct Uncovered: Hashable, Sendable {
    /// Layers of the model, from 0, those without attention counted too.
    public let layers: [ClosedRange<Int>]
    /// Why, in a few words.
    public let reason: String
  }

  /// The file's `model_type`, that of the text model where several are nested; empty if it names none.
  public let modelType: String
  /// All layers of the model, with and without attention.
  public let layers: Int
  /// The layers whose keys and values a cache holds, from 0; they are the attention layers of ``shape``, in this order.
  public let coveredLayers: [Int]
  /// The shape of the covered layers; `nil` if there is none.
  public let shape: ModelShape?
  /// The other layers, by reason.
  public let uncovered: [Uncovered]
  /// What the shape does not say: one sentence each.
  public let notes: [String]
  /// Tokens that the model was trained for, if the file says so.
  public let contextLength: Int?

  /// Reads a `config.json`.
  ///
  /// - Parameter path: The file, or a folder that holds it; at most 16 MiB.
  /// - Throws: ``CheckpointError`` if it cannot be read, or lacks a value that its family has no default for, or has an absurd one.
  public init(path: String) throws(CheckpointError) {
    var isFolder: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
    let file = isFolder.boolValue ? ModelDirectory(path: path).file("config.json") : path
    let root = try reading { () throws(FileError) in
      try readJSON(JSONValue.self, path: file, limit: ConfigurationFile.byteLimit)
    }
    try self.init(root: root, file: (file as NSString).lastPathComponent)
  }

  /// Reads the contents of a `config.json`.
  public init(json: Data) throws(CheckpointError) {
    let file = "config.json"
    let root = try reading { () throws(FileError) in
      try decodeJSON(JSONValue.self, from: json, file: file)
    }
    try self.init(root: root, file: file)
  }

  init(root: JSONValue, file: String) throws(CheckpointError) {
    guard case .object(let object) = root else {
      throw .file(.invalidJSON(file: file, reason: "\(root) where an object was expected"))
    }
    var reader = try OutlineReader(root: ConfigurationValues(object: object, file: file))
    let kinds = try reader.layerKinds()
    let shapes = try reader.headShapes(of: kinds)

    // One cache holds one shape: that of most layers.
    let common = shapes.compactMap { $0 }.mostFrequent
    var covered: [Int] = []
    var windows: [Int?] = []
    var reasons: [(reason: String, layers: [Int])] = []
    func leaveOut(_ layer: Int, _ reason: String) {
      if let known = reasons.firstIndex(where: { $0.reason == reason }) {
        reasons[known].layers.append(layer)
      } else {
        reasons.append((reason, [layer]))
      }
    }
    for (layer, kind) in kinds.enumerated() {
      switch kind {
      case .uncovered(let reason):
        leaveOut(layer, reason)
      case .attention(let window):
        guard let shape = shapes[layer], let common else { continue }
        if let problem = shape.problem {
          leaveOut(layer, problem)
        } else if shape != common {
          leaveOut(layer, "\(shape), unlike most layers: a cache of its own")
        } else {
          covered.append(layer)
          windows.append(window)
        }
      }
    }

    modelType = reader.modelType
    layers = kinds.count
    coveredLayers = covered
    uncovered = reasons.map {
      Uncovered(layers: IndexSelection.ranges(of: $0.layers), reason: $0.reason)
    }
    notes = reader.notes
    contextLength = reader.contextLength
    shape = common.flatMap { common in
      guard !covered.isEmpty else { return nil }
      return ModelShape(
        layers: covered.count,
        queryHeads: common.queryHeads,
        kvHeads: common.kvHeads,
        headDim: common.keyDim,
        slidingWindows: windows
      )
    }
  }

  /// The shape of the covered layers.
  ///
  /// - Throws: ``CheckpointError`` that says why no layer is covered.
  public func requireShape() throws(CheckpointError) -> ModelShape {
    guard let shape else {
      let reasons = uncovered.map { part in
        "layers \(IndexSelection.text(part.layers, of: layers)): \(part.reason)"
      }
      throw .noCoveredLayer(modelType: modelType, reasons: reasons)
    }
    return shape
  }
}

extension Array where Element: Hashable {
  /// The element that occurs most often; of several the first.
  fileprivate var mostFrequent: Element? {
    var counts: [Element: Int] = [:]
    for element in self { counts[element, default: 0] += 1 }
    let most = counts.values.max()
    return first { counts[$0] == most }
  }
}
