/// What one strip (the keys or the values of one KV head in one page) is encoded with.
///
/// A description is what a policy names: a code, its bits, and its modifiers. It says nothing about
/// shapes; ``StripCodec`` binds it to a head dimension and a page length.
public struct CodecDescription: Hashable, Sendable {
  /// The code itself.
  public enum Code: Hashable, Sendable {
    /// Exact 32-bit rows.
    case float32
    /// Exact rows of half precision.
    case float16
    /// Exact rows in bfloat16.
    case bfloat16
    /// Eight bits, symmetric, one scale per token row (or group of channels).
    case int8
    /// Evenly spaced levels (2, 3, 4 or 8 bits) between the smallest and the largest value.
    case linear
    /// A table fitted to the strip by exact one-dimensional k-means (2, 3 or 4 bits).
    case clustered
    /// A random rotation and the Lloyd-Max table of the normal distribution (2, 3 or 4 bits).
    case rotated
    /// A random rotation and a path through a trellis of 256 table entries (1, 2, 3 or 4 bits).
    case trellis
    /// One of eight codebooks for each block of values, after LO-BCQ (2, 3 or 4 bits).
    case bcq
    /// A block floating-point format, for exchange and comparison.
    case microscaling(MicroscalingFormat)
    /// Pyramid vector quantization of blocks of sixteen (2 or 4 bits), for comparison.
    case pyramid
    /// Pseudo-random bases found by seed, after SeedLM (4 bits), for comparison.
    case seeded
    /// A codec registered by the host under this name.
    case custom(String)
  }

  /// Along which axis of a strip a scale is shared.
  public enum ScaleAxis: String, Hashable, Sendable, CaseIterable {
    /// One scale for each token row.
    case token
    /// One scale for each channel and page.
    case channel
    /// No scale: the table alone says what a code means (`clustered` only).
    case none
  }

  /// What the blocks of ``Code/bcq`` are: the values that choose a codebook together.
  public enum BlockShape: String, Hashable, Sendable, CaseIterable {
    /// Eight neighbouring channels of one token.
    case channels
    /// One channel of up to 64 tokens: as far as a page's blocks reach.
    case tokens
  }

  /// What rows pass through before they are encoded.
  public enum Rotation: String, Hashable, Sendable, CaseIterable {
    /// Nothing.
    case none
    /// The random signed Hadamard transform, which makes all channels alike.
    case hadamard
    /// The calibrated transform of the strip's ``RowTransform``, which sorts channels by how much they matter to attention.
    ///
    /// ``CodecDescription/bits`` are then the average over all channels: the first ones get more, the last ones fewer or none.
    case aligned
  }

  /// The code.
  public var code: Code
  /// Bits of one code, without side information; of an average one with ``Rotation/aligned``.
  public var bits: Int
  /// The axis that shares a scale.
  public var axis: ScaleAxis
  /// Values that share a scale: channels for ``ScaleAxis/token``, tokens for ``ScaleAxis/channel``.
  ///
  /// `nil` means the whole row, or the whole page.
  public var group: Int?
  /// Whether the levels have a zero point (asymmetric) or are symmetric about zero.
  public var zeroPoint: Bool
  /// Whether each scale covers that part of its values' range which leaves the least squared error.
  ///
  /// `linear` only; otherwise a scale covers the whole range.
  public var clipsRange: Bool
  /// Whether scales by channel and page stand beside those by token, so that both rows and columns are of equal size.
  public var balancesScales: Bool
  /// Whether codes of keys are chosen so that errors are small in the directions that queries look in, as a calibration has them.
  public var shapesErrors: Bool
  /// Percent of a block's values, the largest ones, that are kept apart; 0 for none.
  public var outlierPercent: Double
  /// What chooses a codebook (`bcq` only).
  public var blocks: BlockShape
  /// The transform of rows before they are encoded.
  public var rotation: Rotation
  /// Whether the mean of the sequence's sealed rows is subtracted before encoding.
  ///
  /// Attention stays exact:
  /// softmax ignores a constant in the scores, and the softmax weights sum to one.
  public var removesMean: Bool

  /// Creates a description with the defaults of `code`.
  ///
  /// - Parameters:
  ///   - code: The code.
  ///   - bits: Bits of one code; `nil` takes the code's default.
  public init(_ code: Code, bits: Int? = nil) {
    self.code = code
    self.bits = bits ?? Self.defaultBits(of: code)
    axis = .token
    group = nil
    zeroPoint = code == .linear
    clipsRange = false
    balancesScales = false
    shapesErrors = false
    outlierPercent = 0
    blocks = .channels
    rotation = code == .rotated || code == .trellis ? .hadamard : .none
    removesMean = false
  }

  /// Exact 32-bit rows.
  public static let float32 = CodecDescription(.float32)
  /// Exact rows of half precision.
  public static let float16 = CodecDescription(.float16)
  /// Exact rows in bfloat16.
  public static let bfloat16 = CodecDescription(.bfloat16)
  /// Eight bits, one scale per token row.
  public static let int8 = CodecDescription(.int8)
  /// Evenly spaced levels with a zero point, one scale per token row.
  public static func linear(_ bits: Int) -> CodecDescription {
    CodecDescription(.linear, bits: bits)
  }
  /// A table fitted to each strip, with one scale per token row.
  public static func clustered(_ bits: Int) -> CodecDescription {
    CodecDescription(.clustered, bits: bits)
  }
  /// Random rotation and a Lloyd-Max table, one scale per token row.
  public static func rotated(_ bits: Int) -> CodecDescription {
    CodecDescription(.rotated, bits: bits)
  }
  /// Random rotation and a trellis code, one scale per token row.
  public static func trellis(_ bits: Int) -> CodecDescription {
    CodecDescription(.trellis, bits: bits)
  }
  /// One of eight codebooks for each block of eight channels, one scale per token row.
  public static func bcq(_ bits: Int) -> CodecDescription {
    CodecDescription(.bcq, bits: bits)
  }

  /// The same description with the mean removed.
  public var centred: CodecDescription {
    var copy = self
    copy.removesMean = true
    return copy
  }

  /// Whether a strip needs the calibration of its layer and head.
  package var needsCalibration: Bool { rotation == .aligned || shapesErrors }

  /// Whether the chains of a trellis fit into a block: each has one code in each tile, and its window of eight bits must not meet itself.
  package static func hasRoomForChains(channels: Int, blockTokens: Int) -> Bool {
    min(channels / 4 * blockTokens / 16, (channels + 15) / 16 * blockTokens / 4) >= 16
  }

  /// The same description with the calibrated transform.
  public var aligned: CodecDescription {
    var copy = self
    copy.rotation = .aligned
    return copy
  }

  /// The largest magnitude that rows may have.
  ///
  /// Rotation and scales of coded rows need room up to a float's own limit.
  public var magnitudeLimit: Float {
    switch code {
    case .float32: .greatestFiniteMagnitude
    case .float16: 65504
    case .bfloat16: 0x1.fep127
    // A calibrated transform may enlarge rows by as much as its vectors are long.
    default: rotation == .aligned ? 1e20 : 1e35
    }
  }

  /// The built-in codes that attention does not read in place: they are decoded page by page, as a host's own are.
  var pageCodec: (any CustomCodec)? {
    switch code {
    case .microscaling(let format): MicroscalingCodec(format: format)
    case .pyramid: PyramidCodec(bits: bits)
    case .seeded: SeededCodec()
    default: nil
    }
  }

  /// Whether rows are stored as they are (in one of the three floating-point formats).
  public var isExactRows: Bool {
    switch code {
    case .float32, .float16, .bfloat16: true
    default: false
    }
  }
}

extension CodecDescription {
  static func defaultBits(of code: Code) -> Int {
    switch code {
    case .float32: 32
    case .float16, .bfloat16: 16
    case .int8: 8
    case .linear, .clustered, .rotated, .trellis, .bcq, .pyramid, .seeded: 4
    case .microscaling(let format): format.bits
    case .custom: 0
    }
  }

  /// The bits that `code` accepts.
  public static func acceptedBits(of code: Code) -> [Int] {
    switch code {
    case .linear: [2, 3, 4, 8]
    case .clustered, .rotated, .bcq: [2, 3, 4]
    case .trellis: [1, 2, 3, 4]
    case .pyramid: [2, 4]
    default: [defaultBits(of: code)]
    }
  }
}
