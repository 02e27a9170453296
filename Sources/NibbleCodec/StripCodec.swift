internal import CNibble

/// A codec description bound to a shape: it encodes the keys or the values of one KV head in one page.
///
/// A strip is (pageTokens, headDim) values. Its bytes are codes followed by side information; Specs/page-layout.md and
/// Specs/codecs.md have both in full.
public struct StripCodec: Sendable {
  /// What is encoded how.
  public let description: CodecDescription
  /// Keys or values.
  public let side: KVSide
  /// Channels of a row: a multiple of 8 from 8 to 512.
  public let headDim: Int
  /// Tokens of a page.
  public let pageTokens: Int
  /// Bytes of one strip, by purpose.
  public let bytes: Bytes

  /// The calibrated transform of the rows, where the description asks for one.
  package let transform: RowTransform?
  /// The queries' second moments (headDim, headDim) where codes of keys are chosen by them.
  package let metric: [Float]?
  /// What is subtracted from rows where the sequence's own mean is not: the mean of the calibrated transform, unless it is zero.
  package let fixedMean: [Float]?
  /// The strip, or its parts in the order of their channels.
  let parts: [nibble_strip]
  package let custom: (any CustomCodec)?
  /// What the host's codec said when it was bound; asked once, so that it cannot change its mind.
  private let customByteCount: Int

  /// Bytes of one strip, by purpose.
  public struct Bytes: Hashable, Sendable {
    /// Codes, or exact rows, with the padding of their lines.
    public var codes: Int
    /// Tables fitted to the strip.
    public var tables: Int
    /// Scales, zero points, and values kept apart.
    public var scales: Int

    /// Everything but the codes.
    var side: Int { tables + scales }
    /// Everything.
    public var total: Int { codes + side }
  }

  /// Binds a description to a shape.
  ///
  /// - Parameters:
  ///   - description: The code and its modifiers.
  ///   - side: Keys or values.
  ///   - headDim: Channels of a row: a multiple of 8 from 8 to 512.
  ///   - pageTokens: Tokens of a page: 16, 32, 48 or a multiple of 64, at most 1,024.
  ///   - custom: The host's codec, for ``CodecDescription/Code/custom(_:)``.
  ///   - transform: The calibrated transform, for ``CodecDescription/Rotation/aligned`` and
  ///     ``CodecDescription/shapesErrors``; otherwise ignored.
  /// - Throws: ``CodecError`` if the description, the shape or their combination is not possible.
  public init(
    _ description: CodecDescription,
    side: KVSide,
    headDim: Int,
    pageTokens: Int,
    custom: (any CustomCodec)? = nil,
    transform: RowTransform? = nil
  ) throws(CodecError) {
    guard headDim >= 8, headDim <= 512, headDim % 8 == 0 else {
      throw .unsupportedHeadDimension(headDim)
    }
    guard Self.isPossible(pageTokens: pageTokens) else { throw .unsupportedPageTokens(pageTokens) }
    self.description = description
    self.side = side
    self.headDim = headDim
    self.pageTokens = pageTokens
    var custom = custom
    if case .custom(let name) = description.code {
      guard custom != nil else { throw .unknownCodec(name: name, nearest: nil) }
    } else {
      custom = description.pageCodec
    }
    self.custom = custom
    let calibrated = transform
    let transform = description.rotation == .aligned ? transform : nil
    self.transform = transform
    fixedMean = transform.flatMap { $0.mean.contains { $0 != 0 } ? $0.mean : nil }
    var builder = StripLayoutBuilder(
      description: description,
      side: side,
      headDim: headDim,
      pageTokens: pageTokens,
      transform: calibrated
    )
    var count = 0
    if let custom {
      count = custom.byteCount(tokens: pageTokens, headDim: headDim)
      guard count > 0, count <= pageTokens * headDim * 16 else {
        throw .custom(name: custom.name, message: "a strip of \(count) bytes is not possible")
      }
      try builder.custom(byteCount: count)
    } else {
      try builder.build()
    }
    // The builder has refused transforms of another head dimension.
    metric =
      description.shapesErrors
      ? calibrated?.metric(isRotated: description.rotation == .hadamard) : nil
    customByteCount = count
    parts = builder.parts
    bytes = builder.bytes
  }

  /// Whether pages may have this many tokens.
  package static func isPossible(pageTokens: Int) -> Bool {
    [16, 32, 48].contains(pageTokens)
      || (pageTokens >= 64 && pageTokens <= 1024 && pageTokens % 64 == 0)
  }

  /// Values of one strip.
  public var valueCount: Int { headDim * pageTokens }

  /// Bits per value, with all side information and padding inside the strip.
  public var bitsPerValue: Double { Double(bytes.total * 8) / Double(valueCount) }

  /// Encodes one strip.
  ///
  /// - Parameters:
  ///   - rows: Values of shape (pageTokens, headDim).
  ///   - mean: A vector of `headDim` values that is subtracted from every row first; `nil` is that of the calibrated transform, if
  ///     there is one.
  /// - Returns: ``bytes`` bytes: codes, then side information.
  /// - Throws: ``CodecError/wrongLength(what:count:expected:)``, ``CodecError/valueOutOfRange(token:channel:value:limit:)``
  ///   for values that are not finite or beyond ``CodecDescription/magnitudeLimit``, or ``CodecError/custom(name:message:)``.
  public func encode(_ rows: Span<Float>, mean: [Float]? = nil) throws(CodecError) -> [UInt8] {
    try check(count: rows.count, expected: valueCount, what: "rows")
    if let mean { try check(count: mean.count, expected: headDim, what: "mean") }
    try checkMagnitudes(rows)
    var copy = rows.withUnsafeBufferPointer { Array($0) }
    var result = [UInt8](repeating: 0, count: bytes.total)
    var scratch = StripScratch(for: [self])
    try result.withUnsafeMutableBufferPointer { target throws(CodecError) in
      guard let base = target.baseAddress else { return }
      try copy.withUnsafeMutableBufferPointer { source throws(CodecError) in
        guard let rows = source.baseAddress else { return }
        try encode(
          prepared: rows,
          mean: mean,
          codes: base,
          side: base + bytes.codes,
          scratch: &scratch
        )
      }
    }
    return result
  }

  /// Decodes one strip.
  ///
  /// - Parameters:
  ///   - bytes: What ``encode(_:mean:)`` returned.
  ///   - mean: The vector that was subtracted; `nil` as in ``encode(_:mean:)``.
  /// - Returns: Values of shape (pageTokens, headDim).
  /// - Throws: ``CodecError/wrongLength(what:count:expected:)`` or ``CodecError/custom(name:message:)``.
  public func decode(_ bytes: [UInt8], mean: [Float]? = nil) throws(CodecError) -> [Float] {
    try check(count: bytes.count, expected: self.bytes.total, what: "bytes")
    if let mean { try check(count: mean.count, expected: headDim, what: "mean") }
    var rows = [Float](repeating: 0, count: valueCount)
    try rows.withUnsafeMutableBufferPointer { target throws(CodecError) in
      try bytes.withUnsafeBufferPointer { source throws(CodecError) in
        guard let base = source.baseAddress, let rows = target.baseAddress else { return }
        try decode(codes: base, side: base + self.bytes.codes, mean: mean, into: rows)
      }
    }
    return rows
  }

  private func checkMagnitudes(_ rows: Span<Float>) throws(CodecError) {
    let limit = description.magnitudeLimit
    let wrong = rows.withUnsafeBufferPointer { rows in
      rows.baseAddress.map { nibble_first_outside($0, rows.count, limit) } ?? -1
    }
    guard wrong < 0 else {
      throw .valueOutOfRange(
        token: wrong / headDim,
        channel: wrong % headDim,
        value: rows[wrong],
        limit: limit
      )
    }
  }

  private func check(count: Int, expected: Int, what: String) throws(CodecError) {
    guard count == expected else {
      throw .wrongLength(what: what, count: count, expected: expected)
    }
  }
}

// MARK: - The boundary to the runtime and to C

extension StripCodec {
  /// Bytes of codes and of side information: where a page puts its strips.
  package var codeBytes: Int { bytes.codes }
  package var sideBytes: Int { bytes.side }
  /// Bytes of the summary of a page's keys.
  package var summaryBytes: Int { nibble_summary_bytes(Int32(headDim)) }
  /// Whether attention reads codes of this strip in place.
  package var isCodes: Bool { custom == nil && !description.isExactRows }

  /// The C layout.
  ///
  /// For a host's codec it is the layout of the float rows that it decodes to.
  package var stripLayout: StripLayout { StripLayout(parts: parts) }

  /// Encodes rows (pageTokens, headDim), which it overwrites: first the mean goes, then the transform comes.
  package func encode(
    prepared rows: UnsafeMutablePointer<Float>,
    mean: [Float]?,
    codes: UnsafeMutablePointer<UInt8>,
    side: UnsafeMutablePointer<UInt8>,
    scratch: inout StripScratch
  ) throws(CodecError) {
    if let mean = mean ?? fixedMean {
      for token in 0..<pageTokens {
        let row = rows + token * headDim
        for channel in 0..<headDim { row[channel] -= mean[channel] }
      }
    }
    switch description.rotation {
    case .none: break
    case .hadamard: nibble_rotate(rows, pageTokens, Int32(headDim))
    case .aligned: transform?.analyse(rows, count: pageTokens, scratch: scratch.row)
    }
    if let custom {
      try encode(with: custom, rows: rows, codes: codes)
      return
    }
    nibble_encode(parts, transform?.weights, metric, rows, codes, side, scratch.memory)
  }

  /// Writes what attention needs to know of encoded keys to leave their page out.
  ///
  /// `rows` (pageTokens, headDim) is overwritten with what the codes stand for.
  package func summarize(
    codes: UnsafePointer<UInt8>,
    side: UnsafePointer<UInt8>,
    rows: UnsafeMutablePointer<Float>,
    into summary: UnsafeMutablePointer<UInt8>
  ) {
    nibble_decode(parts, codes, side, 0, Int32(pageTokens), rows)
    nibble_summarize(rows, Int32(pageTokens), Int32(headDim), summary)
  }

  /// Decodes tokens into rows (count, headDim), in the space of the model: rotated back, mean added.
  package func decode(
    codes: UnsafePointer<UInt8>,
    side: UnsafePointer<UInt8>,
    mean: [Float]?,
    into rows: UnsafeMutablePointer<Float>
  ) throws(CodecError) {
    try decodeCoded(codes: codes, side: side, into: rows)
    transformBack(rows, count: pageTokens)
    if let mean = mean ?? fixedMean {
      for token in 0..<pageTokens {
        let row = rows + token * headDim
        for channel in 0..<headDim { row[channel] += mean[channel] }
      }
    }
  }

  /// Queries (count, headDim) in the space that keys are encoded in: their products with coded rows are the scores.
  ///
  /// Writes nothing where that is the model's own space.
  package func transform(
    queries: UnsafePointer<Float>,
    count: Int,
    into result: UnsafeMutablePointer<Float>
  ) {
    switch description.rotation {
    case .none: break
    case .hadamard:
      result.update(from: queries, count: count * headDim)
      nibble_rotate(result, count, Int32(headDim))
    case .aligned: transform?.project(queries: queries, count: count, into: result)
    }
  }

  /// Brings rows (count, headDim) from the space that they are encoded in back to the model's, but for the mean; `scratch`
  /// has room for a row.
  package func transformBack(
    _ rows: UnsafeMutablePointer<Float>,
    count: Int,
    scratch: UnsafeMutablePointer<Float>? = nil
  ) {
    switch description.rotation {
    case .none: break
    case .hadamard: nibble_rotate_back(rows, count, Int32(headDim))
    case .aligned: transform?.synthesize(rows, count: count, scratch: scratch)
    }
  }

  /// Decodes a host's strip into rows (pageTokens, headDim), in the space it was encoded in.
  package func decode(
    with custom: any CustomCodec,
    codes: UnsafePointer<UInt8>,
    into rows: UnsafeMutablePointer<Float>
  ) throws(CodecError) {
    let bytes = UnsafeBufferPointer(start: codes, count: customByteCount)
    var target = UnsafeMutableBufferPointer(start: rows, count: valueCount).mutableSpan
    do {
      try custom.decode(
        bytes: bytes.span,
        tokens: pageTokens,
        headDim: headDim,
        into: &target
      )
    } catch {
      throw .custom(name: custom.name, message: "\(error)")
    }
    let wrong = nibble_first_outside(rows, valueCount, description.magnitudeLimit)
    guard wrong < 0 else {
      throw .custom(
        name: custom.name,
        message: "token \(wrong / headDim), channel \(wrong % headDim) decodes to \(rows[wrong])"
      )
    }
  }

  private func encode(
    with custom: any CustomCodec,
    rows: UnsafeMutablePointer<Float>,
    codes: UnsafeMutablePointer<UInt8>
  ) throws(CodecError) {
    var target = UnsafeMutableBufferPointer(start: codes, count: customByteCount).mutableSpan
    let source = UnsafeBufferPointer(start: UnsafePointer(rows), count: valueCount)
    do {
      try custom.encode(rows: source.span, tokens: pageTokens, headDim: headDim, into: &target)
    } catch {
      throw .custom(name: custom.name, message: "\(error)")
    }
  }
}

/// The C layout of a strip, opaque to modules that do not import the C module themselves.
package struct StripLayout: Sendable {
  let parts: [nibble_strip]

  /// Calls `body` with a pointer to the first `nibble_strip` and their number.
  package func withParts<R>(_ body: (UnsafeRawPointer, Int) throws -> R) rethrows -> R {
    try parts.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else {
        preconditionFailure("a strip has at least one part")
      }
      return try body(base, parts.count)
    }
  }
}

/// Working memory of the encoder, reused from strip to strip.
package struct StripScratch: ~Copyable {
  fileprivate let memory: UnsafeMutableRawPointer
  /// Room for one row.
  fileprivate let row: UnsafeMutablePointer<Float>

  /// Memory enough for each of `codecs`.
  package init(for codecs: [StripCodec]) {
    let count =
      codecs.map { Int(nibble_encode_scratch_bytes($0.parts)) }.max() ?? 0
    memory = .allocate(byteCount: max(count, 64), alignment: 64)
    row = .allocate(capacity: codecs.map(\.headDim).max() ?? 0)
  }

  deinit {
    memory.deallocate()
    row.deallocate()
  }
}

extension StripCodec {
  /// Writes rows, `stride` values apart, at a token of an exact strip.
  package func writeRows(
    _ rows: UnsafePointer<Float>,
    stride: Int,
    count: Int,
    at token: Int,
    codes: UnsafeMutablePointer<UInt8>
  ) {
    nibble_write_rows(parts, codes, Int32(token), Int32(count), rows, stride)
  }

  /// Writes all rows of an exact strip.
  package func writePage(_ rows: UnsafePointer<Float>, codes: UnsafeMutablePointer<UInt8>) {
    writeRows(rows, stride: headDim, count: pageTokens, at: 0, codes: codes)
  }

  /// Decodes a strip into rows (pageTokens, headDim) in the space that codes are in: rotated, without the mean.
  package func decodeCoded(
    codes: UnsafePointer<UInt8>,
    side: UnsafePointer<UInt8>,
    into rows: UnsafeMutablePointer<Float>
  ) throws(CodecError) {
    if let custom {
      try decode(with: custom, codes: codes, into: rows)
    } else {
      nibble_decode(parts, codes, side, 0, Int32(pageTokens), rows)
    }
  }
}
