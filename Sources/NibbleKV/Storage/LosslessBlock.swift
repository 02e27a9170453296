#if LZ4
internal import CLZ4
#endif

/// Lossless compression of page bytes with LZ4 (frame format, with content checksum).
///
/// Codes of a good quantizer have almost no redundancy left; exact rows have little. So a block is kept as it is
/// where LZ4 does not win. Built without the trait `LZ4`, every block is kept as it is.
package struct LosslessBlock: Hashable, Sendable {
  /// How ``bytes`` are to be read.
  package enum Encoding: UInt8, Sendable {
    /// The bytes themselves.
    case raw = 0
    /// One LZ4 frame.
    case lz4 = 1
    /// One LZ4 frame of the bytes of 16-bit numbers: all first bytes, then all second ones.
    case lz4OfTwoPlanes = 2
    /// One LZ4 frame of the bytes of 32-bit numbers: all first bytes, then all second ones, and so on.
    case lz4OfFourPlanes = 4

    /// Planes that the bytes are split into.
    var planes: Int { max(1, Int(rawValue)) }
  }

  /// Why a block could not be read.
  package enum Failure: Error, Hashable, Sendable {
    /// The block needs LZ4, and this build has none.
    case unavailable
    /// The frame is damaged, or is not as long as stated.
    case damaged(expectedBytes: Int)
  }

  /// How the bytes are to be read.
  package let encoding: Encoding
  /// The stored bytes.
  package let bytes: [UInt8]

  /// Compresses bytes; `nil` if they are shorter as they are.
  ///
  /// - Parameters:
  ///   - source: The bytes.
  ///   - elementBytes: Bytes of one number, 1, 2 or 4. Signs and exponents repeat, and do so best side by side; so the bytes of
  ///     longer numbers are split into planes first.
  package init?(compressing source: UnsafeRawBufferPointer, elementBytes: Int) {
    let encoding: Encoding =
      switch elementBytes {
      case 2 where source.count % 2 == 0: .lz4OfTwoPlanes
      case 4 where source.count % 4 == 0: .lz4OfFourPlanes
      default: .lz4
      }
    let frame =
      encoding.planes == 1
      ? Self.frame(of: source)
      : Self.split(source, planes: encoding.planes).withUnsafeBytes { Self.frame(of: $0) }
    guard let frame, frame.count < source.count else { return nil }
    self.encoding = encoding
    bytes = frame
  }

  /// Takes stored bytes.
  package init(encoding: Encoding, bytes: [UInt8]) {
    self.encoding = encoding
    self.bytes = bytes
  }

  /// The bytes that were compressed.
  ///
  /// - Parameter byteCount: How many they are; nothing beyond is allocated, whatever the frame says.
  /// - Returns: The bytes.
  /// - Throws: ``Failure`` if the block is damaged or this build has no LZ4.
  package func expanded(byteCount: Int) throws(Failure) -> [UInt8] {
    switch encoding {
    case .raw:
      guard bytes.count == byteCount else { throw .damaged(expectedBytes: byteCount) }
      return bytes
    case .lz4:
      return try Self.expand(frame: bytes, byteCount: byteCount)
    case .lz4OfTwoPlanes, .lz4OfFourPlanes:
      guard byteCount % encoding.planes == 0 else { throw .damaged(expectedBytes: byteCount) }
      return Self.joined(
        try Self.expand(frame: bytes, byteCount: byteCount),
        planes: encoding.planes
      )
    }
  }

  private static func split(_ source: UnsafeRawBufferPointer, planes: Int) -> [UInt8] {
    let count = source.count / planes
    return [UInt8](unsafeUninitializedCapacity: source.count) { target, written in
      for plane in 0..<planes {
        for index in 0..<count { target[plane * count + index] = source[index * planes + plane] }
      }
      written = count * planes
    }
  }

  private static func joined(_ source: [UInt8], planes: Int) -> [UInt8] {
    let count = source.count / planes
    return [UInt8](unsafeUninitializedCapacity: source.count) { target, written in
      for plane in 0..<planes {
        for index in 0..<count { target[index * planes + plane] = source[plane * count + index] }
      }
      written = count * planes
    }
  }
}

#if LZ4
extension LosslessBlock {
  private static var preferences: LZ4F_preferences_t {
    var preferences = LZ4F_preferences_t()
    preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled
    return preferences
  }

  private static func frame(of source: UnsafeRawBufferPointer) -> [UInt8]? {
    var preferences = preferences
    preferences.frameInfo.contentSize = UInt64(source.count)
    let bound = LZ4F_compressFrameBound(source.count, &preferences)
    var written = 0
    let frame = [UInt8](unsafeUninitializedCapacity: bound) { target, count in
      written = LZ4F_compressFrame(
        target.baseAddress,
        bound,
        source.baseAddress,
        source.count,
        &preferences
      )
      count = LZ4F_isError(written) != 0 ? 0 : written
    }
    return frame.isEmpty ? nil : frame
  }

  private static func expand(frame: [UInt8], byteCount: Int) throws(Failure) -> [UInt8] {
    var context: OpaquePointer?
    guard LZ4F_isError(LZ4F_createDecompressionContext(&context, UInt32(LZ4F_VERSION))) == 0 else {
      throw .unavailable
    }
    defer { LZ4F_freeDecompressionContext(context) }
    var written = byteCount
    var read = frame.count
    var rest = 1
    let result = [UInt8](unsafeUninitializedCapacity: byteCount) { target, count in
      frame.withUnsafeBytes { source in
        rest = LZ4F_decompress(
          context,
          target.baseAddress,
          &written,
          source.baseAddress,
          &read,
          nil
        )
      }
      count = min(written, byteCount)
    }
    // 0: the frame ended, its checksum was right.
    guard rest == 0, written == byteCount, read == frame.count else {
      throw .damaged(expectedBytes: byteCount)
    }
    return result
  }
}
#else
extension LosslessBlock {
  private static func frame(of source: UnsafeRawBufferPointer) -> [UInt8]? { nil }

  private static func expand(frame: [UInt8], byteCount: Int) throws(Failure) -> [UInt8] {
    throw .unavailable
  }
}
#endif
