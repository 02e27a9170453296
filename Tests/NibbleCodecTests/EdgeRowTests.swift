import Foundation
import NibbleCodec
import Testing

/// Rows that strain scales and zero points: what comes back is finite and within the bound that the code promises.
@Suite struct EdgeRowTests {
  enum Edge: String, CaseIterable {
    case zeros, constant, offset, outlier, subnormal, tiny, huge, alternating, oneHot, mixed

    func value(token: Int, channel: Int, normal: Float) -> Float {
      switch self {
      case .zeros: 0
      case .constant: -3.7
      case .offset: 1000 + normal
      case .outlier: token == 5 && channel == 3 ? 60000 : normal
      case .subnormal: 0x1p-136 * normal
      case .tiny: 1e-20 * normal
      case .huge: 1e30 * normal
      case .alternating: (token + channel) % 2 == 0 ? 1 : -1
      case .oneHot: channel == token ? 1 : 0
      case .mixed: normal * exp2(Float(token % 16 - 12))
      }
    }
  }

  static let headDim = 64
  static let pageTokens = 64

  private static func rows(_ edge: Edge) -> [Float] {
    let normals = standardNormal(headDim * pageTokens, seed: 3)
    return normals.indices.map {
      edge.value(token: $0 / headDim, channel: $0 % headDim, normal: normals[$0])
    }
  }

  @Test(arguments: everyCodec, Edge.allCases)
  func errorIsBounded(text: String, edge: Edge) throws {
    let rows = Self.rows(edge)
    for side in KVSide.allCases {
      let strip = try StripCodec(
        codec(text),
        side: side,
        headDim: Self.headDim,
        pageTokens: Self.pageTokens
      )
      guard rows.allSatisfy({ $0.magnitude <= strip.description.magnitudeLimit }) else {
        #expect(throws: CodecError.self) { try strip.encode(rows.span) }
        continue
      }
      let bytes = try strip.encode(rows.span)
      #expect(try strip.encode(rows.span) == bytes, "encoding is repeatable")
      let decoded = try strip.decode(bytes)
      #expect(decoded.allSatisfy { $0.isFinite })
      expectWithinBounds(decoded, rows, of: strip.description)
    }
  }

  @Test(arguments: everyCodec)
  func zerosAreZeros(text: String) throws {
    let strip = try StripCodec(codec(text), side: .keys, headDim: 64, pageTokens: 64)
    let decoded = try strip.decode(strip.encode(Self.rows(.zeros).span))
    #expect(decoded.allSatisfy { $0 == 0 })
  }

  /// The mean is taken away before and put back after.
  @Test(arguments: ["float32", "int8", "linear:4", "rotated:4", "clustered:4"])
  func meanComesBack(text: String) throws {
    let strip = try StripCodec(codec(text), side: .values, headDim: 64, pageTokens: 64)
    let mean = (0..<64).map { Float($0) * 10 - 300 }
    let small = standardNormal(64 * 64, seed: 4)
    let rows = small.indices.map { small[$0] + mean[$0 % 64] }
    let decoded = try strip.decode(strip.encode(rows.span, mean: mean), mean: mean)
    let plain = try strip.decode(strip.encode(small.span))
    for (value, expected) in zip(decoded, plain.indices.map { plain[$0] + mean[$0 % 64] }) {
      #expect(abs(value - expected) < (text == "float32" ? 1e-4 : 0.5))
    }
    #expect(relativeError(decoded, rows) < relativeError(plain, small) / 10 + 1e-6)
  }

  // MARK: - Errors

  @Test(arguments: [Float.nan, .infinity, -.infinity, .signalingNaN])
  func valuesThatAreNotFinite(value: Float) throws {
    for text in everyCodec {
      let strip = try StripCodec(codec(text), side: .keys, headDim: 64, pageTokens: 64)
      var rows = Self.rows(.constant)
      rows[7 * 64 + 13] = value
      let error = #expect(throws: CodecError.self) { try strip.encode(rows.span) }
      guard case .valueOutOfRange(token: 7, channel: 13, let found, let limit) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(found.isNaN == value.isNaN)
      #expect(limit == strip.description.magnitudeLimit)
      #expect(
        "\(CodecError.valueOutOfRange(token: 7, channel: 13, value: found, limit: limit))"
          .contains("token 7, channel 13")
      )
    }
  }

  @Test func valuesBeyondTheFormat() throws {
    for (text, fits, fails) in [
      ("float16", Float(65504), Float(65505)), ("bfloat16", 0x1.fep127, 0x1.ff8p127),
      ("linear:4", 1e35, 2e35), ("float32", .greatestFiniteMagnitude, .infinity),
    ] {
      let strip = try StripCodec(codec(text), side: .keys, headDim: 8, pageTokens: 16)
      for sign in [Float(1), -1] {
        let good = [Float](repeating: sign * fits, count: 128)
        #expect(try strip.decode(strip.encode(good.span)).allSatisfy { $0.isFinite })
        let bad = [Float](repeating: 0, count: 127) + [sign * fails]
        let expected = CodecError.valueOutOfRange(
          token: 15,
          channel: 7,
          value: sign * fails,
          limit: fits
        )
        #expect(throws: expected) { try strip.encode(bad.span) }
      }
    }
  }

  @Test func wrongLengths() throws {
    let strip = try StripCodec(.linear(4), side: .keys, headDim: 64, pageTokens: 64)
    let rows = Self.rows(.mixed)
    let short = Array(rows.dropLast())
    #expect(throws: CodecError.wrongLength(what: "rows", count: 4095, expected: 4096)) {
      try strip.encode(short.span)
    }
    #expect(throws: CodecError.wrongLength(what: "mean", count: 1, expected: 64)) {
      try strip.encode(rows.span, mean: [1])
    }
    let bytes = try strip.encode(rows.span)
    #expect(throws: CodecError.wrongLength(what: "bytes", count: 0, expected: bytes.count)) {
      try strip.decode([])
    }
    #expect(throws: CodecError.wrongLength(what: "mean", count: 0, expected: 64)) {
      try strip.decode(bytes, mean: [])
    }
  }

  // MARK: - Bounds

  private func expectWithinBounds(
    _ decoded: [Float],
    _ rows: [Float],
    of description: CodecDescription
  ) {
    switch description.code {
    case .float32, .float16, .bfloat16:
      let unit: Float = description == .float16 ? 0x1p-11 : 0x1p-8
      for (x, y) in zip(rows, decoded) {
        let bound = description == .float32 ? 0 : x.magnitude * unit + 0x1p-25
        if abs(x - y) > bound { Issue.record("\(x) became \(y)") }
      }
    case .int8 where description.rotation == .none,
      .linear
    where description.rotation == .none && !description.clipsRange && !description.balancesScales
      && description.outlierPercent == 0:
      for members in sharedScales(description) {
        let values = members.map { rows[$0] }
        let bound = halfStep(of: values, description)
        for index in members where abs(rows[index] - decoded[index]) > bound {
          Issue.record("\(rows[index]) became \(decoded[index]); bound \(bound)")
        }
      }
    default:
      // A table's nearest entries: together not worse than storing nothing.
      #expect(relativeError(decoded, rows) < 1.1)
    }
  }

  /// Indices of the values that share a scale.
  private func sharedScales(_ description: CodecDescription) -> [[Int]] {
    let dim = Self.headDim
    switch description.axis {
    case .channel:
      let tokens = description.group ?? Self.pageTokens
      return (0..<Self.pageTokens / tokens).flatMap { block in
        (0..<dim).map { channel in
          (0..<tokens).map { (block * tokens + $0) * dim + channel }
        }
      }
    case .token, .none:
      let group = description.group ?? dim
      return (0..<Self.pageTokens * dim / group).map { Array($0 * group..<($0 + 1) * group) }
    }
  }

  /// Half a step, and what rounding the scale to 8 bits and the zero point to 11 bits costs.
  ///
  /// Below the smallest scale that bfloat16 holds in full, values count as zeros.
  private func halfStep(of values: [Float], _ description: CodecDescription) -> Float {
    let low = values.min() ?? 0
    let high = values.max() ?? 0
    let far = max(-low, high)
    let top = Float(1 << description.bits) - 1
    if description.zeroPoint {
      let step = max((high - low) / top, far / 60000)
      let zero = step > 0 ? abs(low / step) + 128 : 0
      return step * 1.01 * (0.5 + top * 0x1p-8 + zero * 0x1p-10) + 1e-33
    }
    // Symmetric codes of eight bits have a level at zero; fewer bits have none, and wider steps.
    let step = description.bits == 8 ? far / 127 : 2 * far / top
    return step * 1.01 * (0.5 + top * 0x1p-8) + 1e-33
  }

  private func relativeError(_ a: [Float], _ b: [Float]) -> Double {
    let error = zip(a, b).reduce(0.0) { $0 + pow(Double($1.0) - Double($1.1), 2) }
    let power = b.reduce(0.0) { $0 + Double($1) * Double($1) }
    return power > 0 ? (error / power).squareRoot() : error.squareRoot()
  }
}
