/// Why a codec could not be made or could not encode.
public enum CodecError: Error, Hashable, Sendable {
  /// No codec has this name.
  case unknownCodec(name: String, nearest: String?)
  /// The codec exists, but not with these bits.
  case unsupportedBits(codec: String, bits: String, accepted: [Int])
  /// A codec mapping has a key that means nothing.
  case unknownOption(name: String, nearest: String?)
  /// A codec mapping has a value that is not one of those expected.
  case invalidOption(name: String, value: String, expected: [String])
  /// The codec does not combine with one of its options.
  case unsupportedOption(codec: String, option: String, reason: String)
  /// Head dimensions are multiples of 8 from 8 to 512.
  case unsupportedHeadDimension(Int)
  /// Page lengths are 16, 32, 48 or a multiple of 64, at most 1,024 tokens.
  case unsupportedPageTokens(Int)
  /// A buffer has another length than its shape asks for.
  case wrongLength(what: String, count: Int, expected: Int)
  /// A value cannot be encoded.
  case valueOutOfRange(token: Int, channel: Int, value: Float, limit: Float)
  /// A calibrated transform cannot be made, or is not one.
  case invalidTransform(reason: String)
  /// A calibration was made for other weights.
  case foreignCalibration(fingerprint: String?, model: String?)
  /// A host's own codec failed.
  case custom(name: String, message: String)
}

extension CodecError: CustomStringConvertible {
  /// What is wrong, with the value and what is possible.
  public var description: String {
    switch self {
    case .unknownCodec(let name, let nearest):
      "unknown codec '\(name)'" + suggestion(nearest)
    case .unsupportedBits(let codec, let bits, let accepted):
      "codec '\(codec)' has no form of '\(bits)' bits; it has \(list(accepted.map(String.init)))"
    case .unknownOption(let name, let nearest):
      "unknown codec option '\(name)'" + suggestion(nearest)
    case .invalidOption(let name, let value, let expected):
      "option '\(name)' cannot be '\(value)'; expected \(list(expected))"
    case .unsupportedOption(let codec, let option, let reason):
      "codec '\(codec)' does not take '\(option)': \(reason)"
    case .unsupportedHeadDimension(let value):
      "head dimension \(value) is not a multiple of 8 from 8 to 512"
    case .unsupportedPageTokens(let value):
      "a page of \(value) tokens is not possible; use 16, 32, 48 or a multiple of 64 up to 1024"
    case .wrongLength(let what, let count, let expected):
      "\(what): \(count) values where \(expected) are needed"
    case .valueOutOfRange(let token, let channel, let value, let limit):
      "value \(value) of token \(token), channel \(channel) is not finite or beyond ±\(limit)"
    case .invalidTransform(let reason):
      "calibrated transform: \(reason)"
    case .foreignCalibration(let fingerprint, let model):
      "the calibration was made for the model \(fingerprint ?? "without a fingerprint"), "
        + "not for \(model ?? "one without a fingerprint")"
    case .custom(let name, let message):
      "codec '\(name)': \(message)"
    }
  }

  private func suggestion(_ nearest: String?) -> String {
    nearest.map { "; did you mean '\($0)'?" } ?? ""
  }

  private func list(_ words: [String]) -> String {
    words.joined(separator: ", ")
  }
}
