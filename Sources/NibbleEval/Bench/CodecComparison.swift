import Foundation
public import NibbleKV

/// A row of `compare --codecs --data normal`; the names of its JSON fields are fixed by Specs/cli.md.
public struct CodecRow: Encodable, Hashable, Sendable {
  /// The codec as it was given.
  public var codec: String
  /// Bits per value, with all side information and padding; the mean of keys and values.
  public var bitsPerValue: Double
  /// Σ (row − decoded)² / Σ row² of key strips.
  public var relativeMSEOfKeys: Double
  /// The same of value strips.
  public var relativeMSEOfValues: Double
  /// −10 log₁₀ of the mean of both.
  public var decibels: Double
  /// Time to encode one value, one thread.
  public var encodeNanosecondsPerValue: Double
  /// Bytes of pages that one thread attends to in a second; `nil` where it was not measured.
  public var decodeBytesPerSecond: Double?

  private enum CodingKeys: String, CodingKey {
    case codec
    case bitsPerValue = "bits_per_value"
    case relativeMSEOfKeys = "relative_mse_k"
    case relativeMSEOfValues = "relative_mse_v"
    case decibels
    case encodeNanosecondsPerValue = "encode_ns_per_value"
    case decodeBytesPerSecond = "decode_bytes_per_second"
  }

  /// Writes every field; what was not measured is null.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(codec, forKey: .codec)
    try container.encode(bitsPerValue, forKey: .bitsPerValue)
    try container.encode(relativeMSEOfKeys, forKey: .relativeMSEOfKeys)
    try container.encode(relativeMSEOfValues, forKey: .relativeMSEOfValues)
    try container.encode(decibels, forKey: .decibels)
    try container.encode(encodeNanosecondsPerValue, forKey: .encodeNanosecondsPerValue)
    try container.encode(decodeBytesPerSecond, forKey: .decodeBytesPerSecond)
  }
}

/// Codecs on standard normal rows: what each bit buys, without a model.
public struct CodecComparison: Sendable {
  /// Rows of the distortion.
  public var rows = 4_096
  /// Channels of a row.
  public var headDim = 128
  /// Tokens of the cache whose decoding is timed; `nil` leaves that out.
  public var context: Int? = 16_384

  /// Creates a comparison of 4,096 rows of 128 channels.
  public init() {}

  /// Every built-in codec with each of its bits or formats and default options, but for rows of 32 bits and the search of
  /// `seeded`, which takes minutes.
  public static var everyCodec: [Policy] {
    get throws {
      var names: [String] = []
      for name in CodecDescription.builtInNames where !["float32", "seeded"].contains(name) {
        let code = try CodecDescription(parsing: name).code
        if case .microscaling = code {
          names += MicroscalingFormat.allCases.map { "\(name)@format=\($0.rawValue)" }
          continue
        }
        for bits in CodecDescription.acceptedBits(of: code).sorted(by: >) {
          names.append(CodecDescription(code, bits: bits).shortName)
        }
      }
      return try Policy.list(argument: names.joined(separator: ","))
    }
  }

  /// Measures every codec.
  ///
  /// - Throws: `CodecError` or `KVError` if a codec does not fit the head dimension, or ``EvaluationError``.
  public func run(
    codecs: [Policy],
    progress: ProgressHandler = { _ in }
  ) throws -> [CodecRow] {
    var benchmark = EncodeBenchmark(headDim: headDim)
    benchmark.rows = rows
    let encoded = try benchmark.figures(codecs: codecs, progress: progress)
    let speeds = try decodeSpeeds(codecs, encoded, progress: progress)
    return codecs.indices.map { index in
      let figure = encoded[index]
      let error = (figure.keys.relativeMSE + figure.values.relativeMSE) / 2
      return CodecRow(
        codec: codecs[index].label,
        bitsPerValue: figure.bitsPerValue,
        relativeMSEOfKeys: figure.keys.relativeMSE,
        relativeMSEOfValues: figure.values.relativeMSE,
        decibels: -10 * log10(error),
        encodeNanosecondsPerValue: figure.nanosecondsPerValue,
        decodeBytesPerSecond: speeds[index]
      )
    }
  }

  /// Attention of one token over a full cache, eight query heads on two KV heads, one thread; nil where the cache would
  /// take minutes to fill.
  private func decodeSpeeds(
    _ codecs: [Policy],
    _ encoded: [EncodeBenchmark.Figures],
    progress: ProgressHandler
  ) throws -> [Double?] {
    guard let context else { return codecs.map { _ in nil } }
    let shape = ModelShape(layers: 32, queryHeads: 8, kvHeads: 2, headDim: headDim)
    let benchmark = DecodeBenchmark(shape: shape, threads: 1)
    let isFast = encoded.map { $0.nanosecondsPerValue < Self.slowestToFill }
    let timed = zip(codecs, isFast).filter(\.1).map(\.0)
    let rows = try benchmark.run(policies: timed, contexts: [context], progress: progress)
    var speeds = rows.map(\.bytesPerSecond)[...]
    return isFast.map { $0 ? speeds.popFirst() : nil }
  }

  /// Nanoseconds to encode a value.
  private static let slowestToFill = 1_000.0
}
