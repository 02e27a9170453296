import Foundation
public import NibbleGenerate
public import NibbleKV

/// What `calibrate` reports; the names of its JSON fields are fixed by Specs/cli.md.
public struct CalibrationReport: Encodable, Hashable, Sendable {
  /// The model's name.
  public var model: String
  /// What names the model's weights.
  @NullableText public var fingerprint: String?
  /// The file that was written.
  public var path: String
  /// Texts that were read.
  public var documents: Int
  /// Tokens of the texts.
  public var tokens: Int
  /// Layers.
  public var layers: Int
  /// KV heads of each layer.
  public var kvHeads: Int
  /// How far equal bits for all channels lie above the best ones at the same rate, in decibels: the mean over layers and heads of
  /// the ratio of the arithmetic to the geometric mean of the weights of keys.
  public var codingGainOfKeys: Double
  /// The same of values.
  public var codingGainOfValues: Double

  private enum CodingKeys: String, CodingKey {
    case model, fingerprint, path, documents, tokens, layers
    case kvHeads = "kv_heads"
    case codingGainOfKeys = "coding_gain_k_db"
    case codingGainOfValues = "coding_gain_v_db"
  }
}

/// Reads text with an exact cache that gathers statistics, and makes the model's calibration from them.
public struct CalibrationRun {
  /// The model.
  public var model: any DecoderModel
  /// Token ids of the text, by document.
  public var documents: [[Int]]
  /// Threads of the cache; `nil` takes one for each core.
  public var threads: Int?
  /// A folder that takes the exact rows too, or `nil`: `keys.f32` and `values.f32`, float32 rows of one head each.
  public var rowFolder: String?

  /// Creates a run.
  public init(
    model: any DecoderModel,
    documents: [[Int]],
    threads: Int? = nil,
    rowFolder: String? = nil
  ) {
    self.model = model
    self.documents = documents
    self.threads = threads
    self.rowFolder = rowFolder
  }

  private static let stepTokens = 512

  /// Reads the text.
  ///
  /// - Parameter progress: Told after every step, in tokens.
  /// - Returns: The calibration.
  /// - Throws: `KVError` (of too little text among others), ``EvaluationError``, or an error of the model.
  public func run(progress: ProgressHandler = { _ in }) throws -> Calibration {
    let cache = try KVCache(
      model: model.shape,
      policy: .exact,
      threads: threads,
      gathersStatistics: true
    )
    let rows = try rowFolder.map { try RowFiles(folder: $0) }
    let total = documents.reduce(0) { $0 + $1.count }
    var done = 0
    for document in documents {
      let sequence = cache.makeSequence()
      for first in stride(from: 0, to: document.count, by: Self.stepTokens) {
        let tokens = Array(document[first..<min(first + Self.stepTokens, document.count)])
        _ = try model.forward(tokens: tokens, store: sequence, logits: .none)
        done += tokens.count
        progress(WorkProgress(phase: "text", completed: done, total: total))
      }
      try rows?.append(sequence)
    }
    progress(WorkProgress(phase: "transforms", completed: total, total: total))
    return try cache.calibration()
  }

  /// What there is to say about a calibration.
  public func report(on calibration: Calibration, path: String) -> CalibrationReport {
    CalibrationReport(
      model: model.name,
      fingerprint: calibration.fingerprint,
      path: path,
      documents: documents.count,
      tokens: documents.reduce(0) { $0 + $1.count },
      layers: calibration.layerCount,
      kvHeads: calibration.headCount,
      codingGainOfKeys: gain(calibration, \.keys),
      codingGainOfValues: gain(calibration, \.values)
    )
  }

  private func gain(
    _ calibration: Calibration,
    _ side: KeyPath<Calibration.Head, RowTransform>
  ) -> Double {
    let gains = calibration.heads.joined().map { $0[keyPath: side].codingGain }
    return gains.reduce(0, +) / Double(gains.count)
  }
}

/// Two files that take rows as they come.
private struct RowFiles {
  let keys: FileHandle
  let values: FileHandle

  init(folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    keys = try Self.create(folder + "/keys.f32")
    values = try Self.create(folder + "/values.f32")
  }

  private static func create(_ path: String) throws -> FileHandle {
    guard FileManager.default.createFile(atPath: path, contents: nil),
      let handle = FileHandle(forWritingAtPath: path)
    else { throw FileError.unwritable(path: path, reason: "it cannot be created") }
    return handle
  }

  /// Adds the rows of all layers and heads.
  func append(_ sequence: KVSequence) throws {
    for layer in 0..<sequence.shape.layers {
      let rows = try sequence.decodedRows(layer: layer)
      try keys.write(contentsOf: rows.keys.withUnsafeBytes { Data($0) })
      try values.write(contentsOf: rows.values.withUnsafeBytes { Data($0) })
    }
  }
}

extension RowTransform {
  /// What the best allotment of bits gains over equal ones at high rates, in decibels: the ratio of the arithmetic to the geometric
  /// mean of the weights.
  public var codingGain: Double {
    let weights = weights.map { max(Double($0), .leastNormalMagnitude) }
    let arithmetic = weights.reduce(0, +) / Double(weights.count)
    let geometric = weights.reduce(0) { $0 + log10($1) } / Double(weights.count)
    return 10 * (log10(arithmetic) - geometric)
  }
}

extension Calibration {
  /// A calibration for figures without a model: rows stay as they are, and weights fall as 1, 1/2, 1/3, ...
  ///
  /// - Throws: `CodecError` for a head dimension that is not possible.
  static func decaying(_ shape: ModelShape) throws -> Calibration {
    let dim = shape.headDim
    var identity = [Float](repeating: 0, count: dim * dim)
    for channel in 0..<dim { identity[channel * dim + channel] = 1 }
    let transform = try RowTransform(
      headDim: dim,
      mean: Array(repeating: 0, count: dim),
      analysis: identity,
      synthesis: identity,
      weights: (1...dim).map { 1 / Float($0) }
    )
    let layer = Array(repeating: Head(keys: transform, values: transform), count: shape.kvHeads)
    return try Calibration(
      fingerprint: shape.fingerprint,
      heads: Array(repeating: layer, count: shape.layers),
      tokenCount: 1
    )
  }
}
