public import NibbleKV

/// A row of `bench encode`; the names of its JSON fields are fixed by Specs/cli.md.
public struct EncodeRow: Encodable, Hashable, Sendable {
  /// The codec as it was given.
  public var codec: String
  /// Channels of a row.
  public var headDim: Int
  /// Rows that were encoded.
  public var rows: Int
  /// Time to encode one value.
  public var nanosecondsPerValue: Double
  /// Bits per value, with all side information and padding.
  public var bitsPerValue: Double
  /// Σ (row − decoded)² / Σ row².
  public var relativeMSE: Double

  private enum CodingKeys: String, CodingKey {
    case codec
    case headDim = "head_dim"
    case rows
    case nanosecondsPerValue = "nanoseconds_per_value"
    case bitsPerValue = "bits_per_value"
    case relativeMSE = "relative_mse"
  }
}

/// Encodes and decodes standard normal rows, page by page, on one thread.
///
/// A codec is given as a policy, so that every short form can be measured; its keys' and values'
/// codecs encode the same rows and the figures are their means.
public struct EncodeBenchmark: Sendable {
  /// Rows; what does not fill a page is left out.
  public var rows = 4_096
  /// Channels of a row.
  public var headDim: Int

  /// Creates a benchmark.
  public init(headDim: Int) {
    self.headDim = headDim
  }

  private static let rounds = 50
  /// Slow codecs are timed fewer times.
  private static let patience = Duration.seconds(2)

  /// Measures every codec.
  ///
  /// - Throws: `CodecError` if a codec does not fit the head dimension, or ``EvaluationError``.
  public func run(
    codecs: [Policy],
    progress: ProgressHandler = { _ in }
  ) throws -> [EncodeRow] {
    try figures(codecs: codecs, progress: progress).enumerated().map { index, figure in
      let policy = codecs[index]
      return EncodeRow(
        codec: policy.label,
        headDim: headDim,
        rows: rows / policy.pageTokens * policy.pageTokens,
        nanosecondsPerValue: figure.nanosecondsPerValue,
        bitsPerValue: figure.bitsPerValue,
        relativeMSE: (figure.keys.relativeMSE + figure.values.relativeMSE) / 2
      )
    }
  }

  /// What one codec costs as keys and as values.
  struct Figures {
    var keys: (nanoseconds: Double, relativeMSE: Double)
    var values: (nanoseconds: Double, relativeMSE: Double)
    var bitsPerValue: Double

    var nanosecondsPerValue: Double { (keys.nanoseconds + values.nanoseconds) / 2 }
  }

  func figures(codecs: [Policy], progress: ProgressHandler) throws -> [Figures] {
    try check("rows", rows, in: 1...262_144)
    try check("head dimension", headDim, in: 8...512)
    var random = RandomRows(seed: 29)
    let data = random.normal(rows * headDim)
    return try codecs.enumerated().map { index, policy in
      progress(WorkProgress(phase: policy.label, completed: index, total: codecs.count))
      return try figures(policy, data)
    }
  }

  private func figures(_ policy: Policy, _ data: [Float]) throws -> Figures {
    guard rows >= policy.pageTokens else {
      throw EvaluationError.invalidOption(
        name: "rows",
        value: "\(rows)",
        expected: "at least a page of \(policy.pageTokens)"
      )
    }
    let keys = try strip(policy.keys, .keys, policy)
    let values = try strip(policy.values, .values, policy)
    return Figures(
      keys: try measure(keys, data),
      values: try measure(values, data),
      bitsPerValue: (keys.bitsPerValue + values.bitsPerValue) / 2
    )
  }

  private func strip(
    _ description: CodecDescription,
    _ side: KVSide,
    _ policy: Policy
  ) throws -> StripCodec {
    let shape = ModelShape(layers: 1, queryHeads: 1, kvHeads: 1, headDim: headDim)
    return try CodecCatalogue.standard.strip(
      description,
      side: side,
      headDim: headDim,
      pageTokens: policy.pageTokens,
      transform: Calibration.decaying(shape).transform(layer: 0, head: 0, side: side)
    )
  }

  private func measure(
    _ strip: StripCodec,
    _ data: [Float]
  ) throws(CodecError) -> (nanoseconds: Double, relativeMSE: Double) {
    let pages = rows / strip.pageTokens
    // As a sequence does: the mean of the first page serves all.
    let mean = strip.description.removesMean ? meanRow(data, rows: strip.pageTokens) : nil
    let memory = PageMemory(strip, pages: pages)
    var times: [Double] = []
    let begin = ContinuousClock.now
    for round in 0..<Self.rounds where round == 0 || ContinuousClock.now - begin < Self.patience {
      let start = ContinuousClock.now
      for page in 0..<pages { try memory.encode(data, page: page, mean: mean) }
      times.append((ContinuousClock.now - start) / .nanoseconds(1))
    }
    var error = 0.0
    var power = 0.0
    for page in 0..<pages {
      let decoded = try strip.decode(memory.bytes(of: page), mean: mean)
      for (index, value) in decoded.enumerated() {
        let truth = Double(data[page * strip.valueCount + index])
        error += (Double(value) - truth) * (Double(value) - truth)
        power += truth * truth
      }
    }
    return (median(times) / Double(pages * strip.valueCount), error / power)
  }

  private func meanRow(_ data: [Float], rows: Int) -> [Float] {
    (0..<headDim).map { channel in
      let sum = (0..<rows).reduce(0.0) { $0 + Double(data[$1 * headDim + channel]) }
      return Float(sum / Double(rows))
    }
  }
}

/// Pages and scratch memory that all rounds share, as a cache's do: what is timed is the encoder, with a copy of the rows.
private final class PageMemory {
  private let strip: StripCodec
  private var scratch: StripScratch
  private let rows: UnsafeMutablePointer<Float>
  private let pages: UnsafeMutablePointer<UInt8>

  init(_ strip: StripCodec, pages count: Int) {
    self.strip = strip
    scratch = StripScratch(for: [strip])
    rows = .allocate(capacity: strip.valueCount)
    pages = .allocate(capacity: count * strip.bytes.total)
    pages.initialize(repeating: 0, count: count * strip.bytes.total)
  }

  deinit {
    rows.deallocate()
    pages.deallocate()
  }

  func encode(_ data: [Float], page: Int, mean: [Float]?) throws(CodecError) {
    data.withUnsafeBufferPointer { data in
      guard let base = data.baseAddress else { return }
      rows.update(from: base + page * strip.valueCount, count: strip.valueCount)
    }
    let codes = pages + page * strip.bytes.total
    try strip.encode(
      prepared: rows,
      mean: mean,
      codes: codes,
      side: codes + strip.bytes.codes,
      scratch: &scratch
    )
  }

  func bytes(of page: Int) -> [UInt8] {
    Array(UnsafeBufferPointer(start: pages + page * strip.bytes.total, count: strip.bytes.total))
  }
}
