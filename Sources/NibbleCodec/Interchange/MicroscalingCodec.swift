/// MXFP4, MXINT8 and NVFP4, for exchange with programs that use them and for comparison.
///
/// Bytes: elements row by row, two of 4 bits to a byte, the first one lower; the blocks' scales row by row; for NVFP4 the
/// strip's scale (float32). Specs/codecs.md, microscaling.
struct MicroscalingCodec: CustomCodec {
  let format: MicroscalingFormat

  var name: String { "microscaling" }

  func byteCount(tokens: Int, headDim: Int) -> Int {
    let strip = Strip(format: format, tokens: tokens, headDim: headDim)
    return strip.scaleStart + strip.tokens * strip.blocks + (format == .nvfp4 ? 4 : 0)
  }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) {
    let strip = Strip(format: format, tokens: tokens, headDim: headDim)
    for index in bytes.indices { bytes[index] = 0 }
    let unit = stripScale(rows)
    if format == .nvfp4 { store(unit, at: bytes.count - 4, in: &bytes) }
    for token in 0..<tokens {
      for block in 0..<strip.blocks {
        let channels = strip.channels(of: block)
        var largest: Float = 0
        for channel in channels {
          largest = max(largest, rows[token * headDim + channel].magnitude)
        }
        let code = scaleCode(largest: largest, unit: unit)
        bytes[strip.scaleStart + token * strip.blocks + block] = code
        let scale = scale(code, unit: unit)
        for channel in channels {
          let value = scale > 0 ? rows[token * headDim + channel] / scale : 0
          strip.put(element(value), token: token, channel: channel, in: &bytes)
        }
      }
    }
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) {
    let strip = Strip(format: format, tokens: tokens, headDim: headDim)
    let unit = format == .nvfp4 ? load(at: bytes.count - 4, from: bytes) : 1
    for token in 0..<tokens {
      for block in 0..<strip.blocks {
        let code = bytes[strip.scaleStart + token * strip.blocks + block]
        let scale = scale(code, unit: unit)
        for channel in strip.channels(of: block) {
          let element = strip.get(token: token, channel: channel, from: bytes)
          rows[token * headDim + channel] = value(of: element) * scale
        }
      }
    }
  }

  // MARK: - Elements and scales

  private func element(_ value: Float) -> UInt8 {
    guard format == .mxint8 else { return SmallFloat.toE2M1(value) }
    let level = (value * 64).rounded(.toNearestOrEven)
    return UInt8(bitPattern: Int8(max(-127, min(127, level))))
  }

  private func value(of element: UInt8) -> Float {
    format == .mxint8 ? Float(Int8(bitPattern: element)) / 64 : SmallFloat.fromE2M1(element)
  }

  /// What scales of NVFP4 are relative to: the largest element times the largest scale reaches the largest value.
  private func stripScale(_ rows: Span<Float>) -> Float {
    guard format == .nvfp4 else { return 1 }
    var largest: Float = 0
    for index in rows.indices { largest = max(largest, rows[index].magnitude) }
    return largest / (448 * 6)
  }

  private func scaleCode(largest: Float, unit: Float) -> UInt8 {
    switch format {
    case .mxfp4: SmallFloat.toE8M0(largest: largest, elementExponent: 2)
    case .mxint8: SmallFloat.toE8M0(largest: largest, elementExponent: 0)
    case .nvfp4: unit > 0 ? SmallFloat.toE4M3(largest / 6 / unit) : 0
    }
  }

  private func scale(_ code: UInt8, unit: Float) -> Float {
    format == .nvfp4 ? SmallFloat.fromE4M3(code) * unit : SmallFloat.fromE8M0(code)
  }

  private func store(_ value: Float, at offset: Int, in bytes: inout MutableSpan<UInt8>) {
    for index in 0..<4 {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value.bitPattern >> (8 * index))
    }
  }

  private func load(at offset: Int, from bytes: Span<UInt8>) -> Float {
    var bits: UInt32 = 0
    for index in 0..<4 { bits |= UInt32(bytes[offset + index]) << (8 * index) }
    return Float(bitPattern: bits)
  }
}

/// Where elements and scales lie.
private struct Strip {
  let format: MicroscalingFormat
  let tokens: Int
  let headDim: Int

  var blocks: Int { (headDim + format.blockLength - 1) / format.blockLength }
  var scaleStart: Int { tokens * headDim * format.bits / 8 }

  func channels(of block: Int) -> Range<Int> {
    block * format.blockLength..<min((block + 1) * format.blockLength, headDim)
  }

  func put(_ element: UInt8, token: Int, channel: Int, in bytes: inout MutableSpan<UInt8>) {
    let index = token * headDim + channel
    if format.bits == 8 {
      bytes[index] = element
    } else {
      bytes[index / 2] |= element << (index % 2 * 4)
    }
  }

  func get(token: Int, channel: Int, from bytes: Span<UInt8>) -> UInt8 {
    let index = token * headDim + channel
    return format.bits == 8 ? bytes[index] : bytes[index / 2] >> (index % 2 * 4) & 15
  }
}
