import Foundation
import Testing

@testable import NibbleCodec

/// Codes of keys that follow the queries of a calibration.
@Suite struct ShapingTests {
  static let codecs = [
    "int8", "int8 zero_point=true", "linear:2", "linear:3", "linear:4", "linear:8",
    "linear:4 zero_point=false", "linear:2 clip=search", "linear:3 rotation=hadamard",
    "clustered:2", "clustered:3", "clustered:4", "clustered:3 axis=none", "rotated:2", "rotated:3",
    "rotated:4",
  ]

  /// Rows that are mixtures of a few directions, and noise.
  private static func rows(_ count: Int, _ headDim: Int, seed: UInt64) -> [Float] {
    let few = 4
    let directions = standardNormal(few * headDim, seed: seed)
    let shares = standardNormal(count * few, seed: seed + 1)
    var result = standardNormal(count * headDim, seed: seed + 2).map { $0 * 0.2 }
    for row in 0..<count {
      for index in 0..<few {
        for channel in 0..<headDim {
          result[row * headDim + channel] +=
            shares[row * few + index] * directions[index * headDim + channel]
        }
      }
    }
    return result
  }

  private static func statistics(_ headDim: Int, queries: [Float]) -> RowStatistics {
    var statistics = RowStatistics(headDim: headDim)
    let count = queries.count / headDim
    let keys = standardNormal(count * headDim, seed: 90)
    queries.withUnsafeBufferPointer {
      guard let rows = $0.baseAddress else { return }
      statistics.add(queries: rows, count: count, stride: headDim)
    }
    keys.withUnsafeBufferPointer {
      guard let rows = $0.baseAddress else { return }
      statistics.add(keys: rows, count: count, stride: headDim)
    }
    return statistics
  }

  /// The transform of keys that queries of a few directions meet.
  private static func transform(_ headDim: Int, seed: UInt64 = 1) throws -> RowTransform {
    try statistics(headDim, queries: rows(8 * headDim, headDim, seed: seed)).keyTransform()
  }

  /// `eᵀ metric e` of each row, in the space of the model.
  private static func costs(_ rows: [Float], _ decoded: [Float], _ metric: [Float]) -> [Double] {
    let headDim = Int(Double(metric.count).squareRoot())
    return stride(from: 0, to: rows.count, by: headDim).map { start in
      let error = (start..<start + headDim).map { Double(rows[$0]) - Double(decoded[$0]) }
      var sum = 0.0
      for row in 0..<headDim {
        var slope = 0.0
        for column in 0..<headDim {
          slope += Double(metric[row * headDim + column]) * error[column]
        }
        sum += error[row] * slope
      }
      return sum
    }
  }

  @Test(arguments: codecs, [64, 80])
  func lowersWhatErrorsCost(text: String, headDim: Int) throws {
    let tokens = 64
    let transform = try Self.transform(headDim)
    var description = try codec(text)
    let plain = try StripCodec(description, side: .keys, headDim: headDim, pageTokens: tokens)
    description.shapesErrors = true
    let shaped = try StripCodec(
      description,
      side: .keys,
      headDim: headDim,
      pageTokens: tokens,
      transform: transform
    )
    #expect(shaped.bytes == plain.bytes)
    let rows = standardNormal(tokens * headDim, seed: 7)
    let (first, second) = (try plain.encode(rows.span), try shaped.encode(rows.span))
    #expect(first.dropFirst(plain.bytes.codes) == second.dropFirst(plain.bytes.codes))
    #expect(first != second)
    let decoded = try shaped.decode(second)
    #expect(decoded == (try plain.decode(second)))

    let metric = transform.metric(isRotated: false)
    let before = Self.costs(rows, try plain.decode(first), metric)
    let after = Self.costs(rows, decoded, metric)
    for (token, (before, after)) in zip(before, after).enumerated() {
      #expect(after <= before * (1 + 1e-4), "token \(token)")
    }
    #expect(after.reduce(0, +) < 0.8 * before.reduce(0, +))
  }

  /// No code can move by one level and lower the cost.
  @Test func nothingIsLeftToGain() throws {
    let (headDim, tokens) = (16, 16)
    let transform = try Self.transform(headDim)
    let metric = transform.metric(isRotated: false)
    let strip = try StripCodec(
      try codec("linear:3 zero_point=false shaping=queries"),
      side: .keys,
      headDim: headDim,
      pageTokens: tokens,
      transform: transform
    )
    let rows = standardNormal(tokens * headDim, seed: 8)
    let bytes = try strip.encode(rows.span)
    let decoded = try strip.decode(bytes)
    let costs = Self.costs(rows, decoded, metric)
    var open = 0
    for index in rows.indices {
      let token = index / headDim
      let place = strip.bytes.codes + 2 * token
      let bits = UInt32(bytes[place]) | UInt32(bytes[place + 1]) << 8
      let scale = Float(bitPattern: bits << 16)
      for step in [-2 * scale, 2 * scale] where abs(decoded[index] + step) < 7.5 * scale {
        var moved = decoded
        moved[index] += step
        if Self.costs(rows, moved, metric)[token] < costs[token] * (1 - 1e-4) { open += 1 }
      }
    }
    // Three sweeps need not be enough for every row.
    #expect(open < rows.count / 50)
  }

  @Test func metricIsThatOfQueries() throws {
    let headDim = 32
    let queries = Self.rows(1024, headDim, seed: 3)
    let metric = try Self.statistics(headDim, queries: queries).keyTransform()
      .metric(isRotated: false)
    var moments = [Double](repeating: 0, count: headDim * headDim)
    for start in stride(from: 0, to: queries.count, by: headDim) {
      for row in 0..<headDim {
        for column in 0..<headDim {
          moments[row * headDim + column] +=
            Double(queries[start + row]) * Double(queries[start + column])
        }
      }
    }
    let trace = (0..<headDim).reduce(0) { $0 + moments[$1 * headDim + $1] }
    // As Specs/calibration.md draws them towards the identity.
    let share = 0.1 + Double(headDim) / Double(headDim + 1024)
    for row in 0..<headDim {
      for column in 0..<headDim {
        let index = row * headDim + column
        let expected =
          (1 - share) * moments[index] / trace * Double(headDim) + (row == column ? share : 0)
        #expect(abs(Double(metric[index]) - expected) < 1e-3, "\(row), \(column)")
      }
    }
  }

  /// Errors cost the same before and behind the rotation.
  @Test(arguments: [64, 80])
  func metricFollowsTheRotation(headDim: Int) throws {
    let transform = try Self.transform(headDim)
    let strip = try StripCodec(
      try codec("rotated:4"),
      side: .keys,
      headDim: headDim,
      pageTokens: 16
    )
    let rows = standardNormal(16 * headDim, seed: 5)
    var rotated = rows
    rows.withUnsafeBufferPointer { source in
      rotated.withUnsafeMutableBufferPointer { target in
        guard let source = source.baseAddress, let target = target.baseAddress else { return }
        strip.transform(queries: source, count: 16, into: target)
      }
    }
    let zeros = [Float](repeating: 0, count: rows.count)
    let plain = Self.costs(rows, zeros, transform.metric(isRotated: false))
    let behind = Self.costs(rotated, zeros, transform.metric(isRotated: true))
    for (plain, behind) in zip(plain, behind) { #expect(abs(plain - behind) < 1e-3 * plain) }
  }

  @Test func rowsWithoutScaleStayAsTheyAre() throws {
    let (headDim, tokens) = (64, 16)
    let zeros = [Float](repeating: 0, count: headDim * tokens)
    for text in Self.codecs {
      let strip = try StripCodec(
        try codec(text + " shaping=queries"),
        side: .keys,
        headDim: headDim,
        pageTokens: tokens,
        transform: try Self.transform(headDim)
      )
      #expect(try strip.decode(try strip.encode(zeros.span)) == zeros, "\(text)")
    }
  }

  @Test(
    arguments: [
      "int8 axis=channel", "linear:4 axis=channel", "clustered:3 axis=channel", "linear:4 group=16",
      "rotated:4 group=32", "linear:4 scales=balanced", "rotated:3 outliers=1",
      "rotated:4 rotation=aligned", "trellis:3", "trellis:3 rotation=aligned", "bcq:4", "float16",
      "microscaling", "pyramid:4", "seeded",
    ]
  )
  func refusesOtherCodes(text: String) throws {
    try refuses(text, side: .keys, transform: try Self.transform(64))
  }

  @Test func refusesValuesAndMissingCalibrations() throws {
    for text in Self.codecs {
      try refuses(text, side: .values, transform: try Self.transform(64))
      try refuses(text, side: .keys, transform: nil)
    }
    let description = try codec("rotated:3 shaping=queries")
    let other = try Self.transform(32)
    #expect(throws: CodecError.invalidTransform(reason: "it has 32 channels, not 64")) {
      try StripCodec(description, side: .keys, headDim: 64, pageTokens: 64, transform: other)
    }
  }

  private func refuses(_ text: String, side: KVSide, transform: RowTransform?) throws {
    let description = try codec(text + " shaping=queries")
    #expect("\(text), \(side)") {
      try StripCodec(description, side: side, headDim: 64, pageTokens: 64, transform: transform)
    } throws: { error in
      guard case .unsupportedOption = error as? CodecError else { return false }
      return true
    }
  }
}
