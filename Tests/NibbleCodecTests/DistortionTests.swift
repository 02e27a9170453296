import Foundation
import NibbleCodec
import Testing

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

  /// Below what nearest centroids reach at the same bits by a quarter and more.
  @Test(arguments: [(1, 0.29), (2, 0.078), (3, 0.0212), (4, 0.0059)], KVSide.allCases)
  func trellisBeatsScalarTables(code: (bits: Int, mse: Double), side: KVSide) throws {
    let codec = try StripCodec(.trellis(code.bits), side: side, headDim: 128, pageTokens: 64)
    // A part of the rows: plain C searches slowly.
    let rows = Array(Self.rows[..<(256 * 128)])
    #expect(try relativeMSE(codec, rows: rows) < code.mse)
    #expect(codec.bitsPerValue == Double(code.bits) + 0.125)
  }

  /// Codebooks by blocks come close to a trellis, at three eighths of a bit more.
  @Test(arguments: [(2, 12.1), (3, 18.0), (4, 23.95)], KVSide.allCases)
  func codebooksReachTheirFigures(code: (bits: Int, decibels: Double), side: KVSide) throws {
    let codec = try StripCodec(.bcq(code.bits), side: side, headDim: 128, pageTokens: 64)
    let mse = try relativeMSE(codec, rows: Self.rows)
    #expect(-10 * log10(mse) > code.decibels)
    #expect(codec.bitsPerValue == Double(code.bits) + 0.5)
  }

  /// Where channels differ, one codebook for a channel does what a block's does, for almost nothing.
  @Test func columnsSuitChannelsThatDiffer() throws {
    var rows = Array(Self.rows[..<(512 * 128)])
    for index in rows.indices { rows[index] *= index % 128 % 5 == 0 ? 3 : 0.3 }
    var columns = CodecDescription.bcq(4)
    columns.blocks = .tokens
    let codec = try StripCodec(columns, side: .keys, headDim: 128, pageTokens: 64)
    let plain = try StripCodec(.linear(4), side: .keys, headDim: 128, pageTokens: 64)
    #expect(try relativeMSE(codec, rows: rows) < 0.7 * relativeMSE(plain, rows: rows))
    #expect(codec.bitsPerValue < 4.2)
  }

  /// Where both rows and columns differ in size, scales for both keep small channels from drowning.
  @Test(arguments: ["linear:4", "clustered:4", "bcq:3"])
  func balancedScalesFitRowsAndColumns(text: String) throws {
    var rows = Array(Self.rows[..<(256 * 128)])
    for index in rows.indices {
      rows[index] *= (index % 128 % 5 == 0 ? 4 : 0.2) * (index / 128 % 3 == 0 ? 5 : 0.5)
    }
    let plain = try StripCodec(codec(text), side: .keys, headDim: 128, pageTokens: 64)
    let balanced = try StripCodec(
      codec(text + " scales=balanced"),
      side: .keys,
      headDim: 128,
      pageTokens: 64
    )
    #expect(try channelMSE(balanced, rows: rows) < 0.3 * channelMSE(plain, rows: rows))
    #expect(balanced.bitsPerValue == plain.bitsPerValue + 0.25)
  }

  /// Bytes that no encoder writes are refused.
  @Test(arguments: [("seeded", UInt8(0)), ("pyramid:2", 255), ("microscaling", 255)])
  func damagedPagesAreRefused(codec text: String, byte: UInt8) throws {
    let strip = try StripCodec(codec(text), side: .keys, headDim: 64, pageTokens: 64)
    let damaged = [UInt8](repeating: byte, count: strip.bytes.total)
    #expect(throws: CodecError.self) { try strip.decode(damaged) }
  }

  /// A few large values spoil the scales of their rows, unless they are kept apart.
  @Test(arguments: ["linear:3", "linear:2", "bcq:3"])
  func outliersAreKept(text: String) throws {
    var rows = Array(Self.rows[..<(256 * 128)])
    for index in stride(from: 7, to: rows.count, by: 211) { rows[index] *= 30 }
    let plain = try StripCodec(codec(text), side: .values, headDim: 128, pageTokens: 64)
    let apart = try StripCodec(
      codec(text + " outliers=1"),
      side: .values,
      headDim: 128,
      pageTokens: 64
    )
    #expect(try relativeMSE(apart, rows: rows) < 0.2 * relativeMSE(plain, rows: rows))
    // 82 of 8,192 values, 32 bits each.
    #expect(abs(apart.bitsPerValue - plain.bitsPerValue - 82.0 * 32 / 8192) < 1e-9)
  }

  /// The mean over channels of each one's relative error.
  private func channelMSE(_ codec: StripCodec, rows: [Float]) throws -> Double {
    var error = [Double](repeating: 0, count: codec.headDim)
    var power = error
    for start in stride(from: 0, to: rows.count, by: codec.valueCount) {
      let page = Array(rows[start..<start + codec.valueCount])
      for (index, value) in try codec.decode(codec.encode(page.span)).enumerated() {
        error[index % codec.headDim] += Double(value - page[index]) * Double(value - page[index])
        power[index % codec.headDim] += Double(page[index]) * Double(page[index])
      }
    }
    return zip(error, power).reduce(0) { $0 + $1.0 / $1.1 } / Double(codec.headDim)
  }

  /// A trellis that constrained nothing would store the nearest centroids.
  @Test(arguments: [2, 3, 4])
  func trellisIsNoScalarCode(bits: Int) throws {
    let rows = Array(Self.rows[..<(64 * 128)])
    let trellis = try StripCodec(.trellis(bits), side: .keys, headDim: 128, pageTokens: 64)
    let rotated = try StripCodec(.rotated(bits), side: .keys, headDim: 128, pageTokens: 64)
    let path = try trellis.encode(rows.span).prefix(trellis.bytes.codes)
    let nearest = try rotated.encode(rows.span).prefix(rotated.bytes.codes)
    #expect(path.count == nearest.count)
    let equal = zip(path, nearest).count { $0 == $1 }
    #expect(equal < path.count / 8)
  }

  /// Clipping the range helps most where levels are few.
  @Test(arguments: [(2, 0.14), (3, 0.041), (4, 0.0099)])
  func clippedRangesLoseLess(code: (bits: Int, mse: Double)) throws {
    var description = CodecDescription.linear(code.bits)
    let whole = try StripCodec(description, side: .keys, headDim: 128, pageTokens: 64)
    description.clipsRange = true
    let clipped = try StripCodec(description, side: .keys, headDim: 128, pageTokens: 64)
    let rows = Array(Self.rows[..<(512 * 128)])
    let mse = try relativeMSE(clipped, rows: rows)
    #expect(mse < code.mse)
    #expect(mse < (try relativeMSE(whole, rows: rows)))
    #expect(clipped.bitsPerValue == whole.bitsPerValue)
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
