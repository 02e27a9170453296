import Crypto
import Foundation
import NibbleFiles
public import NibbleKV

extension ModelDirectory {
  /// The model's shape, with the fingerprint of its weights.
  ///
  /// - Throws: ``CheckpointError`` if the configuration or the weights cannot be read.
  public func shape() throws(CheckpointError) -> ModelShape {
    try configuration().shape(named: weights())
  }
}

extension ModelConfiguration {
  /// The shape, with the fingerprint of these weights: SHA-256 of what decides keys and values.
  ///
  /// That is the configuration of attention, and of every tensor its name, type, shape and the first and last 4,096 bytes, in the
  /// order of names. So a fine-tuned model differs, without reading gigabytes.
  ///
  /// - Throws: ``CheckpointError`` if the weights cannot be read.
  func shape(named tensors: CheckpointTensors) throws(CheckpointError) -> ModelShape {
    var hash = SHA256()
    let words = [
      family.rawValue, "\(shape.layers) \(shape.queryHeads) \(shape.kvHeads) \(shape.headDim)",
      shape.slidingWindows.map { $0.map(String.init) ?? "all" }.joined(separator: " "),
      "\(rotary.base)", rotary.scaling.words, "\(normEpsilon)",
    ]
    hash.update(data: Data(words.joined(separator: "\n").utf8))
    for name in tensors.names {
      guard let (file, tensor) = tensors[name] else { continue }
      let line = "\n\(name) \(tensor.element.rawValue) \(tensor.shape)\n"
      hash.update(data: Data(line.utf8))
      for range in [tensor.byteRange.prefix(4_096), tensor.byteRange.suffix(4_096)] {
        let bytes: [UInt8] = try reading { () throws(FileError) in try file.values(range) }
        hash.update(data: bytes)
      }
    }
    var named = shape
    named.fingerprint = hash.finalize().map { byte in
      let digits = String(byte, radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }.joined()
    return named
  }
}

extension RotaryConfiguration.Scaling {
  fileprivate var words: String {
    switch self {
    case .none: "none"
    case .linear(let factor): "linear \(factor)"
    case .llama3(let factor, let low, let high, let context):
      "llama3 \(factor) \(low) \(high) \(context)"
    }
  }
}
