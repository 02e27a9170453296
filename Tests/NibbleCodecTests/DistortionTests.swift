import NibbleCodec
import Testing

struct SeededRandom: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// Standard normal values by Marsaglia's polar method.
func standardNormal(_ count: Int, seed: UInt64) -> [Float] {
  var random = SeededRandom(seed)
  var result: [Float] = []
  while result.count < count {
    let x = Double.random(in: -1..<1, using: &random)
    let y = Double.random(in: -1..<1, using: &random)
    let s = x * x + y * y
    guard s > 0, s < 1 else { continue }
    // -2 ln(s) / s by the series-free route: Foundation's log is not imported here, so use the identity through exp2's inverse.
    let factor = (-2 * naturalLog(s) / s).squareRoot()
    result.append(Float(x * factor))
    result.append(Float(y * factor))
  }
  return Array(result.prefix(count))
}

func relativeMSE(_ codec: StripCodec, rows: [Float]) throws -> Double {
  let page = codec.valueCount
  var error = 0.0
  var power = 0.0
  for start in stride(from: 0, to: rows.count, by: page) {
    let slice = Array(rows[start..<start + page])
    let decoded = try codec.decode(codec.encode(slice.span))
    for (x, y) in zip(slice, decoded) {
      error += Double(x - y) * Double(x - y)
      power += Double(x) * Double(x)
    }
  }
  return error / power
}

/// Distortion on 4,096 rows of 128 standard normal values.
@Suite struct DistortionTests {
  static let rows = standardNormal(4096 * 128, seed: 1)

  @Test(arguments: [(2, 0.1175), (3, 0.0345), (4, 0.0095)], KVSide.allCases)
  func rotatedReachesLloydMax(code: (bits: Int, mse: Double), side: KVSide) throws {
    let codec = try StripCodec(.rotated(code.bits), side: side, headDim: 128, pageTokens: 64)
    let mse = try relativeMSE(codec, rows: Self.rows)
    #expect(abs(mse / code.mse - 1) < 0.02)
    #expect(codec.bitsPerValue == Double(code.bits) + 0.125)
  }

  @Test func clusteredReachesKMeans() throws {
    let codec = try StripCodec(.clustered(4), side: .keys, headDim: 128, pageTokens: 64)
    let mse = try relativeMSE(codec, rows: Self.rows)
    #expect(mse < 0.0096)
    #expect(codec.bitsPerValue < 4.16)
    var tableOnly = CodecDescription.clustered(4)
    tableOnly.axis = .none
    let plain = try StripCodec(tableOnly, side: .values, headDim: 128, pageTokens: 64)
    #expect(try relativeMSE(plain, rows: Self.rows) < 0.0096)
    #expect(plain.bitsPerValue < 4.04)
  }

  @Test func linearAndInt8() throws {
    let linear = try StripCodec(.linear(4), side: .keys, headDim: 128, pageTokens: 64)
    #expect(try relativeMSE(linear, rows: Self.rows) < 0.0105)
    #expect(linear.bitsPerValue == 4.25)
    let int8 = try StripCodec(.int8, side: .keys, headDim: 128, pageTokens: 64)
    #expect(try relativeMSE(int8, rows: Self.rows) < 5e-5)
    #expect(int8.bitsPerValue == 8.125)
  }
}

/// ln(x) for 0 < x < 1 from the binary exponent and the area hyperbolic tangent series.
private func naturalLog(_ x: Double) -> Double {
  let m = x.significand
  let t = (m - 1) / (m + 1)
  var term = t
  var sum = 0.0
  var k = 1.0
  while abs(term) > 1e-18 {
    sum += term / k
    term *= t * t
    k += 2
  }
  return 2 * sum + Double(x.exponent) * 0.693147180559945309
}
