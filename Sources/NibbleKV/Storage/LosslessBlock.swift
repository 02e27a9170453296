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

  /// Compresses bytes, or keeps them if that is shorter.
  package init(compressing source: UnsafeRawBufferPointer) {
    if let frame = Self.frame(of: source), frame.count < source.count {
      encoding = .lz4
      bytes = frame
    } else {
      encoding = .raw
      bytes = Array(source)
    }
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

extension KVSequence {
  /// Bytes that the sequence's sealed pages would take after LZ4, each page by itself and kept as it is where LZ4
  /// does not win.
  ///
  /// For measurement: it tells whether a lossless stage is worth having.
  ///
  /// - Complexity: O(bytes of sealed pages).
  public func losslessPageBytes() -> Int {
    snapshot().layers.reduce(0) { total, layer in
      layer.pages.prefix(layer.sealedCount).reduce(total) { total, page in
        let bytes = UnsafeRawBufferPointer(start: page.base, count: page.byteCount)
        return total + LosslessBlock(compressing: bytes).bytes.count
      }
    }
  }
}
