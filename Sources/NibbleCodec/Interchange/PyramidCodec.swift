/// Pyramid vector quantization: sixteen values are a point of the integer pyramid |y₁| + … + |y₁₆| = K, by its number, and
/// a gain.
///
/// Fischer, *A pyramid vector quantizer* (1986); the search is that of Opus (RFC 6716). Specs/codecs.md, pyramid.
struct PyramidCodec: CustomCodec {
  /// 2 (K = 12, 32 bits a block) or 4 (K = 58, 64 bits a block).
  let bits: Int

  static let blockLength = 16

  var name: String { "pyramid" }

  private var pulses: Int { bits == 2 ? 12 : 58 }
  private var indexBytes: Int { bits * 2 }

  private func blocks(_ headDim: Int) -> Int {
    (headDim + Self.blockLength - 1) / Self.blockLength
  }

  /// Indices, then gains of four bits, then row scales.
  func byteCount(tokens: Int, headDim: Int) -> Int {
    scaleStart(tokens: tokens, headDim: headDim) + 2 * tokens
  }

  private func gainStart(tokens: Int, headDim: Int) -> Int {
    tokens * blocks(headDim) * indexBytes
  }

  private func scaleStart(tokens: Int, headDim: Int) -> Int {
    gainStart(tokens: tokens, headDim: headDim) + (tokens * blocks(headDim) + 1) / 2
  }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) {
    let pyramid = Pyramid.shared
    let gainStart = gainStart(tokens: tokens, headDim: headDim)
    let scaleStart = scaleStart(tokens: tokens, headDim: headDim)
    for index in bytes.indices { bytes[index] = 0 }
    for token in 0..<tokens {
      var gains: [Double] = []
      for block in 0..<blocks(headDim) {
        let values = values(of: block, token: token, headDim: headDim, rows: rows)
        let point = pyramid.nearest(to: values, pulses: pulses)
        gains.append(pyramid.length(of: values, along: point))
        let number = pyramid.index(of: point, pulses: pulses)
        let start = (token * blocks(headDim) + block) * indexBytes
        for index in 0..<indexBytes {
          bytes[start + index] = UInt8(truncatingIfNeeded: number >> (8 * index))
        }
      }
      let scale = BFloat16.stored(Float(gains.max() ?? 0))
      bytes[scaleStart + 2 * token] = UInt8(truncatingIfNeeded: scale.bits)
      bytes[scaleStart + 2 * token + 1] = UInt8(scale.bits >> 8)
      for (block, gain) in gains.enumerated() where scale.value > 0 {
        let level = (15 * gain / Double(scale.value)).rounded(.toNearestOrEven)
        let index = token * blocks(headDim) + block
        bytes[gainStart + index / 2] |= UInt8(max(0, min(15, level))) << (index % 2 * 4)
      }
    }
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {
    let pyramid = Pyramid.shared
    let gainStart = gainStart(tokens: tokens, headDim: headDim)
    let scaleStart = scaleStart(tokens: tokens, headDim: headDim)
    for token in 0..<tokens {
      let low = UInt16(bytes[scaleStart + 2 * token])
      let scale = BFloat16.value(low | UInt16(bytes[scaleStart + 2 * token + 1]) << 8)
      for block in 0..<blocks(headDim) {
        let index = token * blocks(headDim) + block
        var number: UInt64 = 0
        for byte in 0..<indexBytes {
          number |= UInt64(bytes[index * indexBytes + byte]) << (8 * byte)
        }
        guard number < pyramid.count(dimensions: Self.blockLength, pulses: pulses) else {
          throw PyramidError(token: token, block: block, number: number)
        }
        let point = pyramid.point(number, pulses: pulses)
        let level = bytes[gainStart + index / 2] >> (index % 2 * 4) & 15
        let squares = point.reduce(0) { $0 + $1 * $1 }
        let step = Double(scale) * Double(level) / (15 * Double(squares).squareRoot())
        for (offset, y) in point.enumerated() {
          let channel = block * Self.blockLength + offset
          if channel < headDim { rows[token * headDim + channel] = Float(step * Double(y)) }
        }
      }
    }
  }

  /// Sixteen values; zeros behind the last channel.
  private func values(of block: Int, token: Int, headDim: Int, rows: Span<Float>) -> [Double] {
    (0..<Self.blockLength).map { offset in
      let channel = block * Self.blockLength + offset
      return channel < headDim ? Double(rows[token * headDim + channel]) : 0
    }
  }
}

private struct PyramidError: Error, CustomStringConvertible {
  let token: Int
  let block: Int
  let number: UInt64
  var description: String {
    "token \(token), block \(block): \(number) is beyond the points of the pyramid"
  }
}

/// Points of integer pyramids in up to sixteen dimensions.
private struct Pyramid {
  static let shared = Pyramid()

  /// Points with n coordinates whose magnitudes sum to k: [n][k].
  private let counts: [[UInt64]]

  private init() {
    var counts = [[UInt64]](repeating: [UInt64](repeating: 0, count: 59), count: 17)
    for n in 0...16 { counts[n][0] = 1 }
    for n in 1...16 {
      for k in 1...58 {
        counts[n][k] = counts[n - 1][k] &+ counts[n][k - 1] &+ counts[n - 1][k - 1]
      }
    }
    self.counts = counts
  }

  func count(dimensions: Int, pulses: Int) -> UInt64 { counts[dimensions][pulses] }

  /// The point in nearly the direction of `x`.
  ///
  /// First its projection rounded towards zero, then one pulse after the other where it brings the directions closest.
  /// Complexity: O(16 · pulses), in practice O(16²).
  func nearest(to x: [Double], pulses: Int) -> [Int] {
    let sum = x.reduce(0) { $0 + $1.magnitude }
    var y = [Int](repeating: 0, count: x.count)
    guard sum > 0 else {
      y[0] = pulses
      return y
    }
    for i in x.indices { y[i] = Int(Double(pulses) * (x[i].magnitude / sum)) }
    var along = 0.0
    var square = 0.0
    for i in x.indices {
      along += x[i].magnitude / sum * Double(y[i])
      square += Double(y[i] * y[i])
    }
    var left = pulses - y.reduce(0, +)
    while left > 0 {
      var best = 0
      var bestRatio = -1.0
      for i in x.indices {
        let length = along + x[i].magnitude / sum
        let ratio = length * length / (square + Double(2 * y[i] + 1))
        if ratio > bestRatio {
          bestRatio = ratio
          best = i
        }
      }
      along += x[best].magnitude / sum
      square += Double(2 * y[best] + 1)
      y[best] += 1
      left -= 1
    }
    for i in x.indices where x[i] < 0 { y[i] = -y[i] }
    return y
  }

  /// The length of `x` along the direction of `y`, at least 0.
  func length(of x: [Double], along y: [Int]) -> Double {
    var product = 0.0
    var square = 0.0
    for i in x.indices {
      product += x[i] * Double(y[i])
      square += Double(y[i] * y[i])
    }
    return max(0, product / square.squareRoot())
  }

  /// The number of a point.
  ///
  /// Points with an earlier coordinate come first, in the order 0, 1, -1, 2, -2 and so on.
  func index(of y: [Int], pulses: Int) -> UInt64 {
    var result: UInt64 = 0
    var left = pulses
    for (i, coordinate) in y.enumerated() {
      let rest = counts[y.count - i - 1]
      if coordinate != 0 {
        result += rest[left]
        for magnitude in 1..<max(coordinate.magnitude, 1) {
          result += 2 * rest[left - Int(magnitude)]
        }
        if coordinate < 0 { result += rest[left - Int(coordinate.magnitude)] }
      }
      left -= Int(coordinate.magnitude)
    }
    return result
  }

  /// The point with a number below ``count(dimensions:pulses:)``.
  func point(_ number: UInt64, pulses: Int) -> [Int] {
    var y: [Int] = []
    var number = number
    var left = pulses
    for i in 0..<16 {
      let rest = counts[15 - i]
      var magnitude = 0
      var isNegative = false
      while number >= rest[left - magnitude] {
        number -= rest[left - magnitude]
        if magnitude == 0 || isNegative {
          magnitude += 1
          isNegative = false
        } else {
          isNegative = true
        }
      }
      y.append(isNegative ? -magnitude : magnitude)
      left -= magnitude
    }
    return y
  }
}
