import Foundation
import NibbleFiles
import Testing

@testable import NibbleCodec

/// Bits for stretches, eigenvectors, transforms from statistics, and the file that holds them.
@Suite struct CalibrationTests {
  // MARK: - Bits

  @Suite struct BitAllotmentTests {
    static let codes: [CodecDescription.Code] = [.trellis, .rotated]

    /// Weights that fall by up to so many powers of ten, some of them equal.
    static func weights(_ count: Int, decades: Double, seed: UInt64) -> [Float] {
      var random = SeededRandom(seed)
      return (0..<count).map { _ in
        Float(pow(10, -decades * Double(Int.random(in: 0...20, using: &random)) / 20))
      }.sorted(by: >)
    }

    @Test(arguments: [8, 16, 24, 40, 64, 72, 80, 128, 136, 200, 512], [16, 32, 64])
    func partsFit(count: Int, step: Int) {
      for code in Self.codes {
        for bits in CodecDescription.acceptedBits(of: code) {
          for seed in 0..<6 as Range<UInt64> {
            let parts = BitAllotment.parts(
              bits: bits,
              weights: Self.weights(count, decades: 2 * Double(seed), seed: seed),
              step: step,
              distortions: BitAllotment.distortions(of: code)
            )
            let text: Comment = "\(code):\(bits), \(count) weights, step \(step), seed \(seed)"
            #expect(!parts.isEmpty, text)
            #expect(parts.reduce(0) { $0 + $1.channels * $1.bits } <= bits * count, text)
            #expect(parts.reduce(0) { $0 + $1.channels } <= count, text)
            #expect(zip(parts, parts.dropFirst()).allSatisfy { $0.bits > $1.bits }, text)
            #expect(parts.dropLast().allSatisfy { $0.channels % step == 0 }, text)
            #expect(parts.allSatisfy { $0.channels >= min(step, count) }, text)
            #expect(parts.count <= 8, text)
          }
        }
      }
    }

    /// Every sequence of rates that does not rise, of up to five stretches.
    @Test(arguments: [16, 40, 64, 72, 80, 88])
    func noOtherAllotmentIsBetter(count: Int) {
      let step = 16
      var lengths = Array(repeating: step, count: count / step)
      lengths[lengths.count - 1] += count % step
      for code in Self.codes {
        let distortions = BitAllotment.distortions(of: code)
        let rates = distortions.keys.sorted(by: >)
        for bits in CodecDescription.acceptedBits(of: code) {
          for seed in 0..<8 as Range<UInt64> {
            let weights = Self.weights(count, decades: Double(seed), seed: seed)
            let parts = BitAllotment.parts(
              bits: bits,
              weights: weights,
              step: step,
              distortions: distortions
            )
            let taken = parts.flatMap { Array(repeating: $0.bits, count: $0.channels) }
            let spread = taken + Array(repeating: 0, count: count - taken.count)
            let error = zip(spread, weights).reduce(0) { sum, pair in
              sum + (distortions[pair.0] ?? .infinity) * Double(pair.1)
            }
            let best = Self.least(lengths, weights[...], rates[...], bits * count, distortions)
            #expect(error <= best * (1 + 1e-12), "\(code):\(bits), seed \(seed)")
          }
        }
      }
    }

    /// The least error of the stretches that are left, by trying everything.
    private static func least(
      _ lengths: [Int],
      _ weights: ArraySlice<Float>,
      _ rates: ArraySlice<Int>,
      _ budget: Int,
      _ distortions: [Int: Double]
    ) -> Double {
      guard let length = lengths.first else { return 0 }
      let weight = weights.prefix(length).reduce(0) { $0 + Double($1) }
      var best = Double.infinity
      for index in rates.indices where rates[index] * length <= budget {
        let rest = least(
          Array(lengths.dropFirst()),
          weights.dropFirst(length),
          rates[index...],
          budget - rates[index] * length,
          distortions
        )
        best = min(best, weight * (distortions[rates[index]] ?? .infinity) + rest)
      }
      return best
    }

    @Test func equalWeightsGetEqualBits() {
      for code in Self.codes {
        for bits in CodecDescription.acceptedBits(of: code) {
          let parts = BitAllotment.parts(
            bits: bits,
            weights: Array(repeating: 3, count: 72),
            step: 16,
            distortions: BitAllotment.distortions(of: code)
          )
          #expect(parts == [BitAllotment.Part(channels: 72, bits: bits)])
        }
      }
    }

    @Test func weightsOfZeroLeaveSomething() {
      let parts = BitAllotment.parts(
        bits: 2,
        weights: Array(repeating: 0, count: 64),
        step: 16,
        distortions: BitAllotment.distortions(of: .trellis)
      )
      #expect(!parts.isEmpty)
      #expect(parts.reduce(0) { $0 + $1.channels * $1.bits } <= 128)
    }
  }

  // MARK: - Eigenvectors

  @Suite struct EigenTests {
    private static func random(_ size: Int, seed: UInt64) -> SymmetricMatrix {
      let normals = standardNormal(size * size, seed: seed)
      var matrix = SymmetricMatrix(size: size, values: Array(repeating: 0, count: size * size))
      for row in 0..<size {
        for column in 0...row {
          matrix[row, column] = Double(normals[row * size + column])
          matrix[column, row] = matrix[row, column]
        }
      }
      return matrix
    }

    private static func diagonal(_ values: [Double]) -> SymmetricMatrix {
      let size = values.count
      var matrix = SymmetricMatrix(size: size, values: Array(repeating: 0, count: size * size))
      for (index, value) in values.enumerated() { matrix[index, index] = value }
      return matrix
    }

    private func expectEigen(_ matrix: SymmetricMatrix, _ text: Comment) {
      let size = matrix.size
      let eigen = matrix.eigen()
      let scale = matrix.values.reduce(0) { max($0, abs($1)) }
      #expect(zip(eigen.values, eigen.values.dropFirst()).allSatisfy { $0 >= $1 }, text)
      let back = SymmetricMatrix.composed(eigen) { $0 }
      for (value, expected) in zip(back.values, matrix.values) where scale > 0 {
        if abs(value - expected) > 1e-12 * scale * Double(size) {
          Issue.record("\(text): \(value), not \(expected)")
        }
      }
      for row in 0..<size {
        let vector = eigen.vectors[row * size..<(row + 1) * size]
        #expect((vector.max { abs($0) < abs($1) } ?? 0) > 0, text)
        for column in 0..<size {
          let other = eigen.vectors[column * size..<(column + 1) * size]
          let product = zip(vector, other).reduce(0) { $0 + $1.0 * $1.1 }
          if abs(product - (row == column ? 1 : 0)) > 1e-12 {
            Issue.record("\(text): vectors \(row) and \(column) have the product \(product)")
          }
        }
      }
    }

    @Test(arguments: [1, 2, 3, 8, 24, 80])
    func randomMatrices(size: Int) {
      for seed in 0..<3 as Range<UInt64> {
        let matrix = Self.random(size, seed: seed)
        expectEigen(matrix, "random \(size)")
        var scaled = matrix
        for factor in [1e150, 1e-150] {
          scaled.values = matrix.values.map { $0 * factor }
          expectEigen(scaled, "random \(size) times \(factor)")
        }
      }
    }

    @Test func degenerateMatrices() {
      expectEigen(Self.diagonal(Array(repeating: 0, count: 8)), "zero")
      expectEigen(Self.diagonal(Array(repeating: 3, count: 8)), "identity")
      expectEigen(Self.diagonal([1, 5, 5, -2, 5, 0, 1, 1]), "diagonal")
      expectEigen(
        SymmetricMatrix(size: 8, values: Array(repeating: 1, count: 64)),
        "ones"
      )
      // Two directions, one of them much larger; all others zero.
      var rank = SymmetricMatrix(size: 16, values: Array(repeating: 0, count: 256))
      for row in 0..<16 {
        for column in 0..<16 {
          let second = (row % 2 == 0 ? 1.0 : -1) * (column % 2 == 0 ? 1 : -1)
          rank[row, column] = Double((row + 1) * (column + 1)) * 1e6 + second
        }
      }
      expectEigen(rank, "rank two")
      // Eigenvalues that nearly coincide.
      var near = Self.random(12, seed: 9)
      for index in near.values.indices { near.values[index] *= 1e-9 }
      for index in 0..<12 { near[index, index] += 1 }
      expectEigen(near, "nearly the identity")
    }

    @Test func productsAndRoots() {
      var square = Self.random(10, seed: 4)
      for index in 0..<10 { square[index, index] += 12 }  // so that it is positive
      let root = SymmetricMatrix.composed(square.eigen()) { $0.squareRoot() }
      let identity = Self.diagonal(Array(repeating: 1, count: 10))
      for (value, expected) in zip(root.conjugating(identity).values, square.values) {
        #expect(abs(value - expected) < 1e-10)
      }
      let columns = root.applied(to: identity.values)
      for (value, expected) in zip(columns, root.values) { #expect(abs(value - expected) < 1e-12) }
      let half = square.shrunk(by: 0.5)
      #expect(abs(half.meanEigenvalue - square.meanEigenvalue) < 1e-12)
      #expect(abs(half[0, 1] - square[0, 1] / 2) < 1e-12)
    }
  }

  // MARK: - Transforms

  @Suite struct RowStatisticsTests {
    static let dim = 24

    /// Rows whose channels are correlated, of unlike size, and not centred.
    static func rows(_ count: Int, dim: Int = dim, seed: UInt64) -> [Float] {
      let normals = standardNormal(count * dim, seed: seed)
      return (0..<count * dim).map { index in
        let channel = index % dim
        let start = index - channel
        let mixed = normals[index] + 0.8 * normals[start + (channel * 5 + 3) % dim]
        return mixed * exp2(-Float(channel) / 5) + Float(channel % 3) - 0.5
      }
    }

    static func statistics(
      rows count: Int = 700,
      queries queryCount: Int = 1500,
      dim: Int = dim
    ) -> RowStatistics {
      var result = RowStatistics(headDim: dim)
      result.see(.queries, rows(queryCount, dim: dim, seed: 1))
      result.see(.keys, rows(count, dim: dim, seed: 2))
      result.see(.values, rows(count, dim: dim, seed: 3))
      return result
    }

    /// The second moments of rows about `mean`, shrunk as Specs/calibration.md says.
    static func moments(_ rows: [Float], mean: [Double], least: Double) -> [[Double]] {
      let count = rows.count / dim
      var result = Array(repeating: Array(repeating: 0.0, count: dim), count: dim)
      for start in stride(from: 0, to: rows.count, by: dim) {
        for i in 0..<dim {
          for j in 0..<dim {
            result[i][j] +=
              (Double(rows[start + i]) - mean[i]) * (Double(rows[start + j]) - mean[j])
              / Double(count)
          }
        }
      }
      let share = min(0.5, least + Double(dim) / Double(dim + count))
      let level = (0..<dim).reduce(0) { $0 + result[$1][$1] } / Double(dim)
      for i in 0..<dim {
        for j in 0..<dim { result[i][j] *= 1 - share }
        result[i][i] += share * level
      }
      return result
    }

    static func mean(_ rows: [Float]) -> [Double] {
      (0..<dim).map { channel in
        stride(from: channel, to: rows.count, by: dim).reduce(0) { $0 + Double(rows[$1]) }
          / Double(rows.count / dim)
      }
    }

    /// `vectors · matrix · vectorsᵀ`.
    static func energies(_ vectors: [Float], _ matrix: [[Double]]) -> [[Double]] {
      let pieces = stride(from: 0, to: vectors.count, by: dim).map { start in
        vectors[start..<start + dim].map(Double.init)
      }
      let inner = pieces.map { vector in
        matrix.map { row in zip(row, vector).reduce(0) { $0 + $1.0 * $1.1 } }
      }
      return pieces.map { a in
        inner.map { b in zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
      }
    }

    private func expectDiagonal(
      _ matrix: [[Double]],
      _ expected: (Int) -> Double,
      _ text: Comment
    ) {
      for i in matrix.indices {
        for j in matrix.indices {
          let size = (expected(i) * expected(j)).squareRoot()
          if abs(matrix[i][j] - (i == j ? expected(i) : 0)) > 1e-3 * size {
            Issue.record("\(text): element \(i), \(j) is \(matrix[i][j]); size \(size)")
          }
        }
      }
    }

    private func expectInverse(_ transform: RowTransform, _ text: Comment) {
      let identity = (0..<Self.dim).map { i in (0..<Self.dim).map { i == $0 ? 1.0 : 0 } }
      let dim = Self.dim
      for i in 0..<dim {
        for j in 0..<dim {
          let product = (0..<dim).reduce(0.0) {
            $0 + Double(transform.analysis[i * dim + $1])
              * Double(transform.synthesis[j * dim + $1])
          }
          #expect(abs(product - identity[i][j]) < 1e-4, text)
        }
      }
    }

    @Test func keys() throws {
      let transform = try Self.statistics().keyTransform()
      expectInverse(transform, "keys")
      let keys = Self.rows(700, seed: 2)
      let queries = Self.rows(1500, seed: 1)
      for (value, expected) in zip(transform.mean, Self.mean(keys)) {
        #expect(abs(Double(value) - expected) < 1e-5)
      }
      // Coefficients have unit variance and are not correlated.
      let covariance = Self.moments(keys, mean: Self.mean(keys), least: 0.05)
      expectDiagonal(Self.energies(transform.analysis, covariance), { _ in 1 }, "coefficients")
      // A unit of a coefficient costs its weight, and no two coefficients share a cost.
      let none = Array(repeating: 0.0, count: Self.dim)
      let metric = Self.moments(queries, mean: none, least: 0.1)
      let weights = transform.weights.map(Double.init)
      expectDiagonal(Self.energies(transform.synthesis, metric), { weights[$0] }, "energies")
      #expect(zip(weights, weights.dropFirst()).allSatisfy { $0 >= $1 })
      #expect(weights[0] > 10 * weights[Self.dim - 1])
    }

    /// Half of the mean and the covariance are those of keys by the attention they drew.
    @Test func attendedKeys() throws {
      let dim = Self.dim
      let keys = Self.rows(700, seed: 2)
      let attended = Self.rows(600, seed: 4).map { $0 * 0.5 + 2 }
      let weights: [Float] = (0..<600).map { $0 % 7 == 0 ? 0 : 1 / Float(1 + $0 % 11) }
      var statistics = Self.statistics()
      attended.withUnsafeBufferPointer { rows in
        guard let base = rows.baseAddress else { return }
        statistics.add(attendedKeys: base, weights: weights, stride: dim)
      }
      let transform = try statistics.keyTransform()
      expectInverse(transform, "keys")
      // Written out: every row with its share of the whole.
      var total: Double = 0
      for weight in weights { total += Double(weight) }
      var shares: [Double] = weights.map { Double($0) / total / 2 }
      shares += [Double](repeating: 0.5 / 700.0, count: 700)
      let rows: [Double] = (attended + keys).map(Double.init)
      var mean = [Double](repeating: 0, count: dim)
      for (row, share) in shares.enumerated() {
        for channel in 0..<dim { mean[channel] += share * rows[row * dim + channel] }
      }
      for (value, expected) in zip(transform.mean, mean) {
        #expect(abs(Double(value) - expected) < 1e-4)
      }
      var covariance = [[Double]](repeating: [Double](repeating: 0, count: dim), count: dim)
      for (row, share) in shares.enumerated() {
        let difference: [Double] = (0..<dim).map { rows[row * dim + $0] - mean[$0] }
        for i in 0..<dim {
          let scaled: Double = share * difference[i]
          for j in 0..<dim { covariance[i][j] += scaled * difference[j] }
        }
      }
      let shrinkage: Double = 0.05 + Double(dim) / Double(dim + 700)
      var level: Double = 0
      for i in 0..<dim { level += covariance[i][i] / Double(dim) }
      for i in 0..<dim {
        for j in 0..<dim { covariance[i][j] *= 1 - shrinkage }
        covariance[i][i] += shrinkage * level
      }
      expectDiagonal(Self.energies(transform.analysis, covariance), { _ in 1 }, "coefficients")
    }

    @Test func values() throws {
      let transform = try Self.statistics().valueTransform()
      expectInverse(transform, "values")
      #expect(transform.mean.allSatisfy { $0 == 0 })
      let values = Self.rows(700, seed: 3)
      let none = Array(repeating: 0.0, count: Self.dim)
      let moments = Self.moments(values, mean: none, least: 0.005)
      expectDiagonal(Self.energies(transform.analysis, moments), { _ in 1 }, "coefficients")
      let identity = (0..<Self.dim).map { i in (0..<Self.dim).map { i == $0 ? 1.0 : 0 } }
      let weights = transform.weights.map(Double.init)
      expectDiagonal(Self.energies(transform.synthesis, identity), { weights[$0] }, "energies")
    }

    @Test func countsAndMerging() throws {
      #expect(Self.statistics().tokenCount == 700)
      #expect(Self.statistics().queryCount == 1500)
      let keys = Self.rows(700, seed: 2)
      let values = Self.rows(700, seed: 3)
      // Sums of 256 rows are made in single precision: cut at a multiple of that, they are the same.
      var parts: [RowStatistics] = []
      for range in [0..<512, 512..<700] {
        var part = RowStatistics(headDim: Self.dim)
        let places = range.lowerBound * Self.dim..<range.upperBound * Self.dim
        part.see(.keys, Array(keys[places]))
        part.see(.values, Array(values[places]))
        parts.append(part)
      }
      parts[0].see(.queries, Self.rows(1500, seed: 1))
      var merged = parts[0]
      merged.merge(parts[1])
      let whole = Self.statistics()
      #expect(merged.tokenCount == 700)
      for (one, other) in [
        (try merged.keyTransform(), try whole.keyTransform()),
        (try merged.valueTransform(), try whole.valueTransform()),
      ] {
        // The sums are about different rows, so they round differently.
        for (x, y) in zip(one.weights, other.weights) { #expect(abs(x - y) < 1e-4 * y) }
        for (x, y) in zip(one.mean, other.mean) { #expect(abs(x - y) < 1e-5) }
      }
    }

    /// Rows of several heads lie beside each other.
    @Test func stridesArePassedOver() throws {
      let dim = Self.dim
      let keys = Self.rows(300, seed: 2)
      var wide = [Float](repeating: .nan, count: 300 * dim * 3)
      for row in 0..<300 {
        for channel in 0..<dim { wide[row * dim * 3 + dim + channel] = keys[row * dim + channel] }
      }
      var close = RowStatistics(headDim: dim)
      var apart = RowStatistics(headDim: dim)
      close.see(.values, keys)
      apart.see(.values, Array(wide.dropFirst(dim)), stride: dim * 3)
      #expect(try close.valueTransform() == apart.valueTransform())
    }

    @Test func tooFewRows() throws {
      let least = 2 * Self.dim
      _ = try Self.statistics(rows: least, queries: least).keyTransform()
      _ = try Self.statistics(rows: least, queries: least).valueTransform()
      expectRefusal("47 rows of keys seen; 48 are needed") {
        try Self.statistics(rows: least - 1).keyTransform()
      }
      expectRefusal("47 rows of queries seen; 48 are needed") {
        try Self.statistics(queries: least - 1).keyTransform()
      }
      expectRefusal("47 rows of values seen; 48 are needed") {
        try Self.statistics(rows: least - 1).valueTransform()
      }
      expectRefusal("0 rows of keys seen; 48 are needed") {
        try RowStatistics(headDim: Self.dim).keyTransform()
      }
      #expect(throws: CodecError.self) {
        try Calibration(statistics: [[Self.statistics(rows: least - 1)]], fingerprint: nil)
      }
    }

    @Test(arguments: [Float(0), 1.5, 1e-12])
    func rowsThatDoNotVary(size: Float) {
      var statistics = Self.statistics(rows: 0)
      let rows = [Float](repeating: size, count: 100 * Self.dim)
      statistics.see(.keys, rows)
      statistics.see(.values, rows)
      #expect(throws: CodecError.self) { try statistics.keyTransform() }
      #expect(throws: CodecError.self) { try statistics.valueTransform() }
    }

    private func expectRefusal(_ reason: String, _ body: () throws -> RowTransform) {
      #expect(throws: CodecError.invalidTransform(reason: reason)) { try body() }
    }

    /// What a transform is for: less error where queries look, at the same bits.
    @Test(arguments: ["trellis:2", "trellis:3", "rotated:3"])
    func errorsCountLess(text: String) throws {
      let dim = 64
      let statistics = Self.statistics(rows: 1000, queries: 1000, dim: dim)
      let transform = try statistics.keyTransform()
      let rows = Self.rows(64, dim: dim, seed: 50)
      let queries = Self.rows(64, dim: dim, seed: 51)
      let errors = try [codec(text), codec(text).aligned].map { description -> Double in
        let strip = try StripCodec(
          description,
          side: .keys,
          headDim: dim,
          pageTokens: 64,
          transform: transform
        )
        let decoded = try strip.decode(strip.encode(rows.span))
        var sum = 0.0
        for query in 0..<64 {
          for key in 0..<64 {
            let error = (0..<dim).reduce(Float(0)) {
              let index = key * dim + $1
              return $0 + queries[query * dim + $1] * (decoded[index] - rows[index])
            }
            sum += Double(error * error)
          }
        }
        return sum
      }
      #expect(errors[1] < errors[0] / 2)
    }
  }

  // MARK: - Files

  @Suite final class FileTests {
    private let folder = FileManager.default.temporaryDirectory
      .appending(path: "nibble-calibration-\(UUID().uuidString)")
    private var path: String { folder.appending(path: "model.calibration.safetensors").path }

    init() throws {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// A transform of random vectors and its inverse.
    static func transform(seed: UInt64, dim: Int = 8) throws -> RowTransform {
      let normals = standardNormal(dim * (dim + 2), seed: seed)
      var matrix = SymmetricMatrix(size: dim, values: Array(repeating: 0, count: dim * dim))
      for row in 0..<dim {
        for column in 0..<dim {
          matrix[row, column] =
            Double(normals[row * dim + column] + normals[column * dim + row])
            + (row == column ? 20 : 0)
        }
      }
      let eigen = matrix.eigen()
      let inverse = SymmetricMatrix.composed(eigen) { 1 / $0 }
      var mean = Array(normals.suffix(dim))
      mean[0] = -0.0
      mean[1] = 0x1p-140
      return try RowTransform(
        headDim: dim,
        mean: mean,
        analysis: matrix.values.map { Float($0) },
        synthesis: inverse.values.map { Float($0) },
        weights: normals.prefix(dim).map { $0.magnitude }.sorted(by: >)
      )
    }

    static func calibration(fingerprint: String? = "0123abcd") throws -> Calibration {
      var heads: [[Calibration.Head]] = []
      for layer in 0..<3 as Range<UInt64> {
        var row: [Calibration.Head] = []
        for head in 0..<2 as Range<UInt64> {
          let seed = 10 * layer + 2 * head
          row.append(
            Calibration.Head(keys: try transform(seed: seed), values: try transform(seed: seed + 1))
          )
        }
        heads.append(row)
      }
      return try Calibration(fingerprint: fingerprint, heads: heads, tokenCount: 1234)
    }

    private static func bits(_ transform: RowTransform) -> [UInt32] {
      (transform.mean + transform.analysis + transform.synthesis + transform.weights)
        .map(\.bitPattern)
    }

    @Test(arguments: ["0123abcd", nil])
    func everyBitComesBack(fingerprint: String?) throws {
      let written = try Self.calibration(fingerprint: fingerprint)
      try written.write(to: path)
      let read = try Calibration(path: path)
      #expect(read.fingerprint == fingerprint)
      #expect(read.tokenCount == 1234)
      #expect(read.layerCount == 3)
      #expect(read.headCount == 2)
      #expect(read.headDim == 8)
      for layer in 0..<3 {
        for head in 0..<2 {
          for side in KVSide.allCases {
            #expect(
              Self.bits(read.transform(layer: layer, head: head, side: side))
                == Self.bits(written.transform(layer: layer, head: head, side: side))
            )
          }
        }
      }
      let bytes = try Data(contentsOf: URL(filePath: path))
      try read.write(to: path)
      #expect(try Data(contentsOf: URL(filePath: path)) == bytes, "writing is repeatable")
    }

    /// What the file holds, as Specs/calibration.md names it.
    struct Contents {
      var tensors: [SafetensorsFile.Content] = []
      var words = [
        "format": "nibblekv-calibration", "version": "1", "layers": "3", "kv_heads": "2",
        "head_dim": "8", "tokens": "1234", "fingerprint": "0123abcd",
      ]

      init(_ calibration: Calibration) {
        for (layer, heads) in calibration.heads.enumerated() {
          for side in ["keys", "values"] {
            let all = heads.map { side == "keys" ? $0.keys : $0.values }
            add("layers.\(layer).\(side).mean", [2, 8], all.flatMap(\.mean))
            add("layers.\(layer).\(side).analysis", [2, 8, 8], all.flatMap(\.analysis))
            add("layers.\(layer).\(side).synthesis", [2, 8, 8], all.flatMap(\.synthesis))
            add("layers.\(layer).\(side).weights", [2, 8], all.flatMap(\.weights))
          }
        }
      }

      private mutating func add(_ name: String, _ shape: [Int], _ values: [Float]) {
        tensors.append(SafetensorsFile.Content(name: name, shape: shape, values: values))
      }

      mutating func change(
        _ name: String,
        _ body: (inout SafetensorsFile.Content) -> Void
      ) {
        for index in tensors.indices where tensors[index].name == name { body(&tensors[index]) }
      }
    }

    /// The reason why contents are refused, or `nil`.
    private func refusal(_ contents: Contents) throws -> String? {
      try SafetensorsFile.write(contents.tensors, metadata: contents.words, to: path)
      do throws(FileError) {
        _ = try Calibration(path: path)
        return nil
      } catch {
        guard case .wrongContent(_, let reason) = error else { throw error }
        return reason
      }
    }

    @Test func namesAndShapes() throws {
      var contents = Contents(try Self.calibration())
      #expect(try refusal(contents) == nil)
      // Tensors and words that the format does not know are passed over.
      contents.words["made_by"] = "a test"
      contents.tensors.append(SafetensorsFile.Content(name: "more", shape: [1], values: [.nan]))
      #expect(try refusal(contents) == nil)
      let file = try SafetensorsFile(path: path)
      try Self.calibration().write(to: path)
      let written = try SafetensorsFile(path: path)
      #expect(Set(written.tensors.keys).union(["more"]) == Set(file.tensors.keys))
      for (name, tensor) in written.tensors { #expect(file.tensors[name]?.shape == tensor.shape) }
    }

    /// A word of the header that is wrong, or missing.
    struct WrongWord: Sendable {
      var key: String
      var value: String?
      var reason: String

      init(_ key: String, _ value: String?, _ reason: String) {
        self.key = key
        self.value = value
        self.reason = reason
      }
    }

    static let wrongWords = [
      WrongWord("format", "pt", "it is not a calibration"),
      WrongWord("format", nil, "it is not a calibration"),
      WrongWord("version", "2", "its version is 2; this library reads 1"),
      WrongWord("version", nil, "its version is none; this library reads 1"),
      WrongWord("layers", "0", "'layers' is 0; expected 1 to 512"),
      WrongWord("layers", "513", "'layers' is 513; expected 1 to 512"),
      WrongWord("layers", "three", "'layers' is three; expected 1 to 512"),
      WrongWord("layers", nil, "'layers' is missing; expected 1 to 512"),
      WrongWord("layers", "4", "there is no tensor 'layers.3.keys.mean'"),
      WrongWord(
        "kv_heads",
        "1",
        "tensor 'layers.0.keys.mean' is F32 [2, 8]; expected F32 [1, 8]"
      ),
      WrongWord("kv_heads", "-2", "'kv_heads' is -2; expected 1 to 512"),
      WrongWord(
        "head_dim",
        "16",
        "tensor 'layers.0.keys.mean' is F32 [2, 8]; expected F32 [2, 16]"
      ),
      WrongWord("head_dim", "4294967304", "'head_dim' is 4294967304; expected 1 to 512"),
      WrongWord("tokens", "0", "'tokens' is 0; expected 1 to 1099511627776"),
      WrongWord("tokens", "1e3", "'tokens' is 1e3; expected 1 to 1099511627776"),
    ]

    @Test(arguments: wrongWords)
    func words(wrong: WrongWord) throws {
      var contents = Contents(try Self.calibration())
      contents.words[wrong.key] = wrong.value
      #expect(try refusal(contents) == wrong.reason)
    }

    /// Values that make no transform; the reason names the place.
    enum Fault: CaseIterable {
      case notANumber, infinite, huge, notInverse, swapped, rising, negative

      func apply(to contents: inout Contents) {
        let name =
          switch self {
          case .notANumber, .notInverse: "analysis"
          case .infinite, .huge: "mean"
          case .swapped: "synthesis"
          case .rising, .negative: "weights"
          }
        contents.change("layers.1.keys.\(name)") { tensor in
          switch self {
          case .notANumber: tensor.values[70] = .nan
          case .infinite: tensor.values[9] = -.infinity
          case .huge: tensor.values[9] = 2e12
          case .notInverse: tensor.values[64] += 1
          case .swapped: for index in 64..<72 { tensor.values.swapAt(index, index + 8) }
          case .rising: tensor.values[15] = 100
          case .negative: tensor.values[15] = -1
          }
        }
      }
    }

    @Test(arguments: Fault.allCases)
    func values(fault: Fault) throws {
      var contents = Contents(try Self.calibration())
      fault.apply(to: &contents)
      let reason = try #require(try refusal(contents))
      #expect(reason.hasPrefix("layer 1, KV head 1, keys: calibrated transform: "), "\(reason)")
    }

    @Test func shapesAndTypes() throws {
      let contents = Contents(try Self.calibration())
      var flat = contents
      flat.change("layers.2.values.analysis") { $0.shape = [2, 64] }
      #expect(
        try refusal(flat)
          == "tensor 'layers.2.values.analysis' is F32 [2, 64]; expected F32 [2, 8, 8]"
      )
      var missing = contents
      missing.tensors.removeAll { $0.name == "layers.2.values.weights" }
      #expect(try refusal(missing) == "there is no tensor 'layers.2.values.weights'")
      #expect(try refusal(contents) == nil)
      var bytes = try Data(contentsOf: URL(filePath: path))
      let type = try #require(bytes.range(of: Data("F32".utf8)))
      bytes.replaceSubrange(type, with: Data("I32".utf8))
      try bytes.write(to: URL(filePath: path))
      #expect(throws: FileError.self) { try Calibration(path: path) }
    }

    @Test func pieces() throws {
      try Self.calibration().write(to: path)
      let bytes = try Data(contentsOf: URL(filePath: path))
      for length in [0, 1, 7, 8, 9, 100, 2_000, bytes.count - 1] {
        try bytes.prefix(length).write(to: URL(filePath: path))
        #expect(throws: FileError.self, "\(length) bytes") { try Calibration(path: path) }
      }
      try (bytes + [0]).write(to: URL(filePath: path))
      #expect(throws: FileError.self) { try Calibration(path: path) }
    }

    @Test func placesThatDoNotExist() throws {
      let missing = folder.appending(path: "no/such/file").path
      let error = #expect(throws: FileError.self) { try Calibration(path: missing) }
      guard case .unreadable(missing, _) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      let refused = #expect(throws: FileError.self) {
        try Self.calibration().write(to: missing)
      }
      guard case .unwritable(missing + ".saving", _) = refused else {
        Issue.record("\(String(describing: refused))")
        return
      }
    }

    @Test func headsThatDiffer() throws {
      let small = Calibration.Head(
        keys: try Self.transform(seed: 1),
        values: try Self.transform(seed: 2)
      )
      let large = Calibration.Head(
        keys: try Self.transform(seed: 1, dim: 16),
        values: try Self.transform(seed: 2, dim: 16)
      )
      for heads in [[], [[]], [[small], [small, small]], [[small], [large]]] {
        #expect(throws: CodecError.self) {
          try Calibration(fingerprint: nil, heads: heads, tokenCount: 1)
        }
      }
    }

    @Test func lengthsThatDoNotFit() throws {
      let good = try Self.transform(seed: 1)
      #expect(throws: CodecError.wrongLength(what: "analysis", count: 63, expected: 64)) {
        try RowTransform(
          headDim: 8,
          mean: good.mean,
          analysis: good.analysis.dropLast(),
          synthesis: good.synthesis,
          weights: good.weights
        )
      }
      #expect(throws: CodecError.wrongLength(what: "weights", count: 9, expected: 8)) {
        try RowTransform(
          headDim: 8,
          mean: good.mean,
          analysis: good.analysis,
          synthesis: good.synthesis,
          weights: good.weights + [0]
        )
      }
    }
  }

  // MARK: - Strips

  @Test func stripsNeedATransformOfTheirShape() throws {
    let description = try codec("rotated:3 rotation=aligned")
    #expect(
      throws: CodecError.unsupportedOption(
        codec: "rotated",
        option: "rotation=aligned",
        reason: "no calibration is given"
      )
    ) { try StripCodec(description, side: .keys, headDim: 64, pageTokens: 64) }
    let transform = try FileTests.transform(seed: 1)
    #expect(throws: CodecError.invalidTransform(reason: "it has 8 channels, not 64")) {
      try StripCodec(
        description,
        side: .keys,
        headDim: 64,
        pageTokens: 64,
        transform: transform
      )
    }
    _ = try StripCodec(description, side: .keys, headDim: 8, pageTokens: 64, transform: transform)
  }

  @Test(arguments: [
    "linear:4 rotation=aligned", "int8 rotation=aligned", "bcq:4 rotation=aligned",
    "rotated:4 group=16 rotation=aligned", "trellis:3 scales=balanced rotation=aligned",
    "trellis:3 outliers=1 rotation=aligned",
  ])
  func codesThatCannotBeAligned(text: String) throws {
    let error = #expect(throws: CodecError.self) {
      try StripCodec(
        codec(text),
        side: .keys,
        headDim: 64,
        pageTokens: 64,
        transform: FileTests.transform(seed: 1, dim: 64)
      )
    }
    guard case .unsupportedOption = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}

extension RowStatistics {
  fileprivate enum Kind { case queries, keys, values }

  /// Adds rows; the last one may be shorter than the stride.
  fileprivate mutating func see(_ kind: Kind, _ rows: [Float], stride: Int? = nil) {
    let stride = stride ?? headDim
    let count = (rows.count + stride - headDim) / stride
    rows.withUnsafeBufferPointer { rows in
      guard let base = rows.baseAddress, count > 0 else { return }
      switch kind {
      case .queries: add(queries: base, count: count, stride: stride)
      case .keys: add(keys: base, count: count, stride: stride)
      case .values: add(values: base, count: count, stride: stride)
      }
    }
  }
}
