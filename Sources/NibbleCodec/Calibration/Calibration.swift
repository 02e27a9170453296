public import NibbleFiles

/// The calibrated transforms of a model: one for the keys and one for the values of every layer and KV head.
///
/// Written as a safetensors file; Specs/calibration.md has its tensors and words.
public struct Calibration: Sendable {
  /// The transforms of one KV head in one layer.
  public struct Head: Hashable, Sendable {
    /// Of keys.
    public var keys: RowTransform
    /// Of values.
    public var values: RowTransform

    /// Puts two transforms together.
    public init(keys: RowTransform, values: RowTransform) {
      self.keys = keys
      self.values = values
    }
  }

  /// What names the model's weights; `nil` if its host does not say.
  ///
  /// Another model's calibration is refused.
  public let fingerprint: String?
  /// Layers, then KV heads.
  public let heads: [[Head]]
  /// Tokens that it was made from.
  public let tokenCount: Int

  /// Puts transforms together.
  ///
  /// - Parameters:
  ///   - fingerprint: What names the model's weights.
  ///   - heads: Layers, then KV heads: as many in each layer, of one head dimension.
  ///   - tokenCount: Tokens that they were made from.
  /// - Throws: ``CodecError/invalidTransform(reason:)`` if layers or heads differ.
  public init(fingerprint: String?, heads: [[Head]], tokenCount: Int) throws(CodecError) {
    let transforms = heads.joined().flatMap { [$0.keys, $0.values] }
    guard let first = transforms.first, Set(heads.map(\.count)).count == 1,
      transforms.allSatisfy({ $0.headDim == first.headDim })
    else { throw .invalidTransform(reason: "layers have different heads, or there are none") }
    self.fingerprint = fingerprint
    self.heads = heads
    self.tokenCount = tokenCount
  }

  /// Makes the transforms that statistics lead to.
  ///
  /// - Parameters:
  ///   - statistics: Layers, then KV heads.
  ///   - fingerprint: What names the model's weights.
  /// - Throws: ``CodecError/invalidTransform(reason:)`` if too few rows have been seen.
  /// - Complexity: O(layers · kvHeads · headDim³).
  package init(statistics: [[RowStatistics]], fingerprint: String?) throws(CodecError) {
    var heads: [[Head]] = []
    for layer in statistics {
      var row: [Head] = []
      for head in layer {
        row.append(Head(keys: try head.keyTransform(), values: try head.valueTransform()))
      }
      heads.append(row)
    }
    let tokens = statistics.joined().map(\.tokenCount).min() ?? 0
    try self.init(fingerprint: fingerprint, heads: heads, tokenCount: tokens)
  }

  /// Layers.
  public var layerCount: Int { heads.count }
  /// KV heads of each layer.
  public var headCount: Int { heads[0].count }
  /// Channels of a row.
  public var headDim: Int { heads[0][0].keys.headDim }

  /// The transform of one strip.
  ///
  /// An index beyond the model's shape traps.
  public func transform(layer: Int, head: Int, side: KVSide) -> RowTransform {
    side == .keys ? heads[layer][head].keys : heads[layer][head].values
  }
}

// MARK: - Files

extension Calibration {
  /// The version of the written format.
  public static let formatVersion = 1
  private static let formatName = "nibblekv-calibration"

  /// Reads a calibration.
  ///
  /// - Throws: `FileError` if the file cannot be read, or is not a calibration of a version that this library knows; an invalid
  ///   transform is `FileError/wrongContent(file:reason:)` too.
  public init(path: String) throws(FileError) {
    let file = try SafetensorsFile(path: path)
    let words = try Words(file)
    var heads: [[Head]] = []
    for layer in 0..<words.layers {
      let keys = try Self.transforms(of: .keys, layer: layer, file, words)
      let values = try Self.transforms(of: .values, layer: layer, file, words)
      heads.append(zip(keys, values).map { Head(keys: $0, values: $1) })
    }
    do {
      try self.init(fingerprint: words.fingerprint, heads: heads, tokenCount: words.tokens)
    } catch {
      throw .wrongContent(file: file.name, reason: "\(error)")
    }
  }

  /// Writes a calibration; a file of that name is replaced as a whole or not at all.
  ///
  /// - Throws: `FileError/unwritable(path:reason:)`.
  public func write(to path: String) throws(FileError) {
    var tensors: [SafetensorsFile.Content] = []
    for (layer, heads) in heads.enumerated() {
      for side in KVSide.allCases {
        let transforms = heads.map { side == .keys ? $0.keys : $0.values }
        for part in Part.allCases {
          tensors.append(
            SafetensorsFile.Content(
              name: part.name(layer, side),
              shape: part.shape(heads: headCount, dim: headDim),
              values: transforms.flatMap { $0[keyPath: part.path] }
            )
          )
        }
      }
    }
    var metadata = [
      "format": Self.formatName, "version": String(Self.formatVersion),
      "layers": String(layerCount), "kv_heads": String(headCount), "head_dim": String(headDim),
      "tokens": String(tokenCount),
    ]
    metadata["fingerprint"] = fingerprint
    try SafetensorsFile.write(tensors, metadata: metadata, to: path)
  }

  /// What a transform is made of.
  private enum Part: String, CaseIterable {
    case mean, analysis, synthesis, weights

    func name(_ layer: Int, _ side: KVSide) -> String {
      "layers.\(layer).\(side.rawValue).\(rawValue)"
    }

    func shape(heads: Int, dim: Int) -> [Int] {
      self == .analysis || self == .synthesis ? [heads, dim, dim] : [heads, dim]
    }

    var path: KeyPath<RowTransform, [Float]> {
      switch self {
      case .mean: \.mean
      case .analysis: \.analysis
      case .synthesis: \.synthesis
      case .weights: \.weights
      }
    }
  }

  private static func transforms(
    of side: KVSide,
    layer: Int,
    _ file: SafetensorsFile,
    _ words: Words
  ) throws(FileError) -> [RowTransform] {
    var values: [Part: [Float]] = [:]
    for part in Part.allCases {
      values[part] = try file.floats(
        part.name(layer, side),
        shape: part.shape(heads: words.heads, dim: words.dim)
      )
    }
    var result: [RowTransform] = []
    for head in 0..<words.heads {
      let piece = { (part: Part) -> [Float] in
        let all = values[part] ?? []
        let count = all.count / words.heads
        return Array(all[head * count..<(head + 1) * count])
      }
      do {
        result.append(
          try RowTransform(
            headDim: words.dim,
            mean: piece(.mean),
            analysis: piece(.analysis),
            synthesis: piece(.synthesis),
            weights: piece(.weights)
          )
        )
      } catch {
        throw .wrongContent(
          file: file.name,
          reason: "layer \(layer), KV head \(head), \(side.rawValue): \(error)"
        )
      }
    }
    return result
  }

  /// The file's words, checked.
  private struct Words {
    var layers, heads, dim, tokens: Int
    var fingerprint: String?

    init(_ file: SafetensorsFile) throws(FileError) {
      let name = file.name
      guard file.metadata["format"] == Calibration.formatName else {
        throw .wrongContent(file: name, reason: "it is not a calibration")
      }
      let version = file.metadata["version"] ?? "none"
      guard version == String(Calibration.formatVersion) else {
        throw .wrongContent(
          file: name,
          reason: "its version is \(version); this library reads \(Calibration.formatVersion)"
        )
      }
      let number = { (key: String, limit: Int) throws(FileError) -> Int in
        let text = file.metadata[key] ?? "missing"
        guard let value = Int(text), (1...limit).contains(value) else {
          throw .wrongContent(file: name, reason: "'\(key)' is \(text); expected 1 to \(limit)")
        }
        return value
      }
      layers = try number("layers", 512)
      heads = try number("kv_heads", 512)
      dim = try number("head_dim", 512)
      tokens = try number("tokens", 1 << 40)
      fingerprint = file.metadata["fingerprint"]
    }
  }
}
