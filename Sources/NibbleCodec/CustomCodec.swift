/// The two strips of a KV head: keys or values.
public enum KVSide: String, Hashable, Sendable, CaseIterable, Codable {
  /// Keys, with the rotary embedding applied.
  case keys
  /// Values.
  case values
}

/// A host's own codec for one strip: the keys or the values of one KV head in one page.
///
/// Encoding and decoding are enough: attention decodes such strips page by page and runs over the decoded rows. Rows
/// are given without their mean, and rotated, where the policy asks for these modifiers.
public protocol CustomCodec: Sendable {
  /// The name that policies use.
  var name: String { get }

  /// Bytes of one encoded strip, side information included.
  ///
  /// - Parameters:
  ///   - tokens: Tokens of a page.
  ///   - headDim: Channels of a row.
  /// - Returns: The bytes, the same for every strip of this shape.
  func byteCount(tokens: Int, headDim: Int) -> Int

  /// Encodes rows of shape (tokens, headDim) into exactly ``byteCount(tokens:headDim:)`` bytes.
  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws

  /// Decodes what ``encode(rows:tokens:headDim:into:)`` wrote into rows of shape (tokens, headDim).
  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws
}

/// What policies may refer to: the built-in codecs, those that a host registers, and a model's calibration.
public struct CodecCatalogue: Sendable {
  /// The built-in codecs alone.
  public static let standard = CodecCatalogue()

  private var custom: [String: any CustomCodec] = [:]
  /// The transforms of ``CodecDescription/Rotation/aligned``; `nil` if policies cannot ask for them.
  public var calibration: Calibration?

  /// Creates a catalogue of the built-in codecs.
  public init() {}

  /// Adds a host's codec.
  ///
  /// - Throws: ``CodecError/custom(name:message:)`` if the name is taken or is not a lower-case word.
  public mutating func register(_ codec: any CustomCodec) throws(CodecError) {
    let name = codec.name
    let isWord =
      name.first?.isLetter == true
      && name.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || "_-".contains($0)) }
    guard isWord else {
      throw .custom(name: name, message: "a codec's name is a lower-case word")
    }
    guard custom[name] == nil, !CodecDescription.builtInNames.contains(name) else {
      throw .custom(name: name, message: "the name is taken")
    }
    custom[name] = codec
  }

  /// Names of the registered codecs, sorted.
  public var customNames: [String] { custom.keys.sorted() }

  /// The registered codec of this name.
  public func codec(named name: String) -> (any CustomCodec)? { custom[name] }

  /// Binds a description to a shape, and to a calibrated transform where it asks for one.
  ///
  /// - Throws: ``CodecError`` if the description, the shape or their combination is not possible.
  public func strip(
    _ description: CodecDescription,
    side: KVSide,
    headDim: Int,
    pageTokens: Int,
    transform: RowTransform? = nil
  ) throws(CodecError) -> StripCodec {
    guard case .custom(let name) = description.code else {
      return try StripCodec(
        description,
        side: side,
        headDim: headDim,
        pageTokens: pageTokens,
        transform: transform
      )
    }
    guard let codec = custom[name] else {
      throw .unknownCodec(name: name, nearest: nearest(name, among: customNames))
    }
    return try StripCodec(
      description,
      side: side,
      headDim: headDim,
      pageTokens: pageTokens,
      custom: codec
    )
  }
}
