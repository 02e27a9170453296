import Foundation
import NibbleKV
import Testing

/// Calibrated transforms in the cache: gathered, given to a new cache, attended to, cut off and forked.
@Suite struct AlignedTests {
  /// Rows of a made-up model: channels are correlated, of very unlike size, and have a mean.
  struct SlopingRows {
    let keys: [Float]
    let values: [Float]
    private let rowLength: Int

    init(_ tokens: Int, shape: ModelShape, seed: UInt64) {
      var random = SeededRandom(seed)
      rowLength = shape.kvHeads * shape.headDim
      keys = Self.rows(tokens * shape.kvHeads, dim: shape.headDim, &random)
      values = Self.rows(tokens * shape.kvHeads, dim: shape.headDim, &random)
    }

    static func rows(_ count: Int, dim: Int, _ random: inout SeededRandom) -> [Float] {
      var result: [Float] = []
      for _ in 0..<count {
        let normals = random.normals(dim)
        for channel in 0..<dim {
          let mixed = normals[channel] + 0.7 * normals[(channel * 5 + 3) % dim]
          let size = 2 / (1 + Float(channel) / 4)
          result.append(mixed * size + (channel % 7 == 0 ? 0.5 : 0))
        }
      }
      return result
    }

    func append(_ tokens: Range<Int>, to store: some KeyValueStore, layer: Int = 0) throws {
      let range = tokens.lowerBound * rowLength..<tokens.upperBound * rowLength
      let newKeys = Array(keys[range])
      let newValues = Array(values[range])
      try store.append(keys: newKeys.span, values: newValues.span, layer: layer)
    }

    func append(_ tokens: Range<Int>, by chunk: Int, to store: some KeyValueStore, layer: Int = 0)
      throws
    {
      for first in stride(from: tokens.lowerBound, to: tokens.upperBound, by: chunk) {
        try append(first..<min(tokens.upperBound, first + chunk), to: store, layer: layer)
      }
    }
  }

  static func queries(_ tokens: Int = 1, shape: ModelShape, seed: UInt64 = 77) -> [Float] {
    var random = SeededRandom(seed)
    return SlopingRows.rows(tokens * shape.queryHeads, dim: shape.headDim, &random)
  }

  static func shape(headDim: Int, layers: Int = 1) -> ModelShape {
    ModelShape(
      layers: layers,
      queryHeads: 4,
      kvHeads: 2,
      headDim: headDim,
      fingerprint: "made up \(headDim)"
    )
  }

  /// What a cache that has seen enough rows makes of them.
  static func calibration(of shape: ModelShape, tokens: Int? = nil) throws -> Calibration {
    let cache = try KVCache(model: shape, policy: .exact, threads: 1, gathersStatistics: true)
    let sequence = cache.makeSequence()
    let count = tokens ?? 3 * shape.headDim
    for layer in 0..<shape.layers {
      let rows = SlopingRows(count, shape: shape, seed: UInt64(100 + layer))
      try rows.append(0..<count, to: sequence, layer: layer)
      _ = try sequence.attended(queries(count, shape: shape, seed: 5), layer: layer)
    }
    return try cache.calibration()
  }

  static func catalogue(of shape: ModelShape, tokens: Int? = nil) throws -> CodecCatalogue {
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = try calibration(of: shape, tokens: tokens)
    return catalogue
  }

  private func expectReferenceAttention(
    of sequence: KVSequence,
    _ queries: [Float],
    _ text: Comment? = nil
  ) throws {
    let rows = try sequence.decodedRows(layer: 0)
    let truth = ReferenceAttention.attend(
      queries: queries,
      keys: rows.keys,
      values: rows.values,
      shape: sequence.shape
    )
    #expect(relativeError(try sequence.attended(queries), truth) < 2e-2, text)
  }

  // MARK: - Attention

  static let policies = [
    "trellis:1@rotation=aligned", "trellis:2@rotation=aligned", "trellis:3@rotation=aligned",
    "trellis:4@rotation=aligned", "rotated:2@rotation=aligned", "rotated:4@rotation=aligned",
    "rotated:3@rotation=aligned@mean=removed", "k=trellis:3+v=linear:4@k.rotation=aligned",
    "k=int8+v=rotated:3@v.rotation=aligned", "k=rotated:3+v=trellis:2@rotation=aligned",
  ]

  @Test(arguments: [64, 72, 80, 128])
  func attentionEqualsReference(headDim: Int) throws {
    let shape = Self.shape(headDim: headDim)
    let catalogue = try Self.catalogue(of: shape)
    let rows = SlopingRows(400, shape: shape, seed: 1)
    for policy in Self.policies {
      let cache = try KVCache(
        model: shape,
        policy: Policy(argument: policy + "@recent=20@sinks=3"),
        threads: 1,
        catalogue: catalogue
      )
      let sequence = cache.makeSequence()
      try rows.append(0..<400, by: 90, to: sequence)
      // One query goes through the codes, many through expanded blocks.
      for count in [1, 9] {
        let queries = Self.queries(count, shape: shape)
        try expectReferenceAttention(of: sequence, queries, "\(policy), \(count) queries")
      }
    }
  }

  @Test(arguments: [16, 32, 48, 64, 128, 192])
  func pageLengths(pageTokens: Int) throws {
    let shape = Self.shape(headDim: 80)
    let catalogue = try Self.catalogue(of: shape)
    let rows = SlopingRows(500, shape: shape, seed: 2)
    for policy in Self.policies {
      let cache = try KVCache(
        model: shape,
        policy: Policy(argument: policy + "@recent=5@page_tokens=\(pageTokens)"),
        threads: 1,
        catalogue: catalogue
      )
      let sequence = cache.makeSequence()
      try rows.append(0..<500, by: 77, to: sequence)
      #expect(sequence.statistics.compressedTokens > 0)
      let queries = Self.queries(3, shape: shape)
      try expectReferenceAttention(of: sequence, queries, "\(policy)")
    }
  }

  /// Bits are an average, and never more than was asked for.
  @Test func bitsPerValue() throws {
    let shape = Self.shape(headDim: 128)
    let catalogue = try Self.catalogue(of: shape)
    for (name, bits) in [("trellis", 1), ("trellis", 2), ("trellis", 4), ("rotated", 3)] {
      let plan = try Plan(
        policy: Policy(argument: "\(name):\(bits)@rotation=aligned"),
        shape: shape,
        catalogue: catalogue
      )
      let plain = try Plan(policy: Policy(argument: "\(name):\(bits)"), shape: shape)
      for (aligned, other) in zip(plan.entries, plain.entries) {
        #expect(aligned.bitsPerValue <= other.bitsPerValue)
        #expect(aligned.bitsPerValue > other.bitsPerValue - 0.5)
      }
    }
  }

  /// Less of the output is lost than with a random rotation of as many bits.
  @Test(arguments: ["trellis:2", "trellis:3", "rotated:3"])
  func errorIsSmaller(code: String) throws {
    let shape = Self.shape(headDim: 64)
    let catalogue = try Self.catalogue(of: shape, tokens: 1_000)
    let rows = SlopingRows(600, shape: shape, seed: 3)
    let exact = try KVCache(model: shape, policy: .exact, threads: 1).makeSequence()
    try rows.append(0..<600, to: exact)
    let queries = Self.queries(20, shape: shape)
    let truth = try exact.attended(queries).map(Double.init)
    let errors = try ["", "@rotation=aligned"].map { option -> Double in
      let cache = try KVCache(
        model: shape,
        policy: Policy(argument: code + option + "@recent=20"),
        threads: 1,
        catalogue: catalogue
      )
      let sequence = cache.makeSequence()
      try rows.append(0..<600, by: 64, to: sequence)
      return relativeError(try sequence.attended(queries), truth)
    }
    #expect(errors[1] < errors[0] / 1.2)
  }

  // MARK: - Calibration

  private func policyMessage(_ shape: ModelShape, _ catalogue: CodecCatalogue) -> String? {
    do throws(KVError) {
      _ = try KVCache(
        model: shape,
        policy: Policy(keys: .trellis(3).aligned, values: .trellis(3)),
        threads: 1,
        catalogue: catalogue
      )
      return nil
    } catch {
      guard case .policy(let error) = error else { return "another error: \(error)" }
      return error.message
    }
  }

  @Test func calibrationsThatDoNotFit() throws {
    let shape = Self.shape(headDim: 64)
    let good = try Self.catalogue(of: shape)
    #expect(policyMessage(shape, good) == nil)
    #expect(
      policyMessage(shape, .standard)
        == "keys: codec 'trellis' does not take 'rotation=aligned': no calibration is given"
    )
    var foreign = shape
    foreign.fingerprint = "another"
    #expect(
      policyMessage(foreign, good)
        == "keys: the calibration was made for the model made up 64, not for another"
    )
    foreign.fingerprint = nil
    #expect(policyMessage(foreign, good)?.hasSuffix("not for one without a fingerprint") == true)
    let larger = ModelShape(
      layers: 2,
      queryHeads: 4,
      kvHeads: 2,
      headDim: 64,
      fingerprint: shape.fingerprint
    )
    #expect(policyMessage(larger, good)?.contains("[1, 2, 64], not [2, 2, 64]") == true)
    // Policies that do not ask for it do not care.
    _ = try KVCache(model: larger, policy: .balanced, threads: 1, catalogue: good)
  }

  @Test func gatheredStatisticsServeANewCache() throws {
    let shape = Self.shape(headDim: 32, layers: 2)
    let policy = try Policy(argument: "trellis:3@rotation=aligned@page_tokens=64@recent=8")
    let calibration = try Self.calibration(of: shape)
    #expect(calibration.fingerprint == shape.fingerprint)
    #expect(calibration.layerCount == 2)
    #expect(calibration.headCount == 2)
    #expect(calibration.headDim == 32)
    // Sinks stay exact and are left out.
    #expect(calibration.tokenCount == 96 - Policy.exact.sinks)
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = calibration
    let cache = try KVCache(model: shape, policy: policy, threads: 1, catalogue: catalogue)
    let sequence = cache.makeSequence()
    let rows = SlopingRows(300, shape: shape, seed: 4)
    for layer in 0..<2 { try rows.append(0..<300, by: 50, to: sequence, layer: layer) }
    try expectReferenceAttention(of: sequence, Self.queries(2, shape: shape))
  }

  /// Keys count by what queries give them, as double precision has it: one position in sixteen is looked at, sinks are left out.
  @Test func keysCountByTheirAttention() throws {
    let shape = Self.shape(headDim: 16)
    let (tokens, dim, sinks) = (200, 16, Policy.exact.sinks)
    let rows = SlopingRows(tokens, shape: shape, seed: 6)
    let queries = Self.queries(tokens, shape: shape).map { $0 * 3 }
    let options = AttentionOptions(scale: 0.2, window: 90, softCap: 4)
    let cache = try KVCache(
      model: shape,
      policy: .exact,
      threads: 1,
      gathersStatistics: true
    )
    let sequence = cache.makeSequence()
    try rows.append(0..<tokens, to: sequence)
    _ = try sequence.attended(queries, options: options)
    let keys = try sequence.decodedRows(layer: 0).keys

    for head in 0..<2 {
      var statistics = RowStatistics(headDim: dim)
      var weights = [Double](repeating: 0, count: tokens)
      for position in stride(from: 15, to: tokens, by: 16) {
        for query in 2 * head..<2 * head + 2 {
          let visible = max(0, position - 89)..<position + 1
          let scores = visible.map { token -> Double in
            var dot: Double = 0
            for channel in 0..<dim {
              let key = Double(keys[(token * 2 + head) * dim + channel])
              dot += Double(queries[(position * 4 + query) * dim + channel]) * key
            }
            return 4 * tanh(dot * 0.05)
          }
          var sum: Double = 0
          for score in scores { sum += exp(score) }
          for (token, score) in zip(visible, scores) where token >= sinks {
            let weight: Double = exp(score) / sum
            weights[token] += weight * (1 - weight)
          }
        }
      }
      keys.withUnsafeBufferPointer { keys in
        guard let base = keys.baseAddress else { return }
        let own = base + head * dim
        statistics.add(keys: own + sinks * 2 * dim, count: tokens - sinks, stride: 2 * dim)
        statistics.add(attendedKeys: own, weights: weights.map(Float.init), stride: 2 * dim)
      }
      queries.withUnsafeBufferPointer { queries in
        guard let base = queries.baseAddress else { return }
        for query in 2 * head..<2 * head + 2 {
          let own = base + (sinks * 4 + query) * dim
          statistics.add(queries: own, count: tokens - sinks, stride: 4 * dim)
        }
      }
      let expected = try statistics.keyTransform()
      let found = try cache.calibration().transform(layer: 0, head: head, side: .keys)
      for (a, b) in zip(expected.mean + expected.weights, found.mean + found.weights) {
        #expect(abs(a - b) <= 1e-4 * max(1, abs(a)))
      }
    }
  }

  /// What a cache gathers does not depend on how the text was cut, and hardly on what it stores: keys are weighed as attention
  /// sees them.
  @Test func statisticsHardlyDependOnThePolicy() throws {
    let shape = Self.shape(headDim: 16)
    let rows = SlopingRows(250, shape: shape, seed: 5)
    let queries = Self.queries(250, shape: shape)
    let cases: [(Policy, Int)] = [(.exact, 250), (.exact, 10), (.small, 250), (.small, 10)]
    let means = try cases.map { policy, chunk in
      let cache = try KVCache(model: shape, policy: policy, threads: 1, gathersStatistics: true)
      let sequence = cache.makeSequence()
      for first in stride(from: 0, to: 250, by: chunk) {
        try rows.append(first..<first + chunk, to: sequence)
        let part = Array(queries[first * 64..<(first + chunk) * 64])
        _ = try sequence.attended(part)
      }
      let calibration = try cache.calibration()
      #expect(calibration.tokenCount == 246)
      return calibration.transform(layer: 0, head: 1, side: .keys)
    }
    for (index, other) in means.enumerated().dropFirst() {
      let tolerance: Float = cases[index].0 == .exact ? 1e-4 : 0.05
      for (a, b) in zip(means[0].mean + means[0].weights, other.mean + other.weights) {
        #expect(abs(a - b) <= tolerance * max(1, abs(a)))
      }
    }
  }

  @Test func cachesWithoutEnoughToSay() throws {
    let shape = Self.shape(headDim: 32)
    let plain = try KVCache(model: shape, policy: .small, threads: 1)
    let none = #expect(throws: KVError.self) { try plain.calibration() }
    guard case .invalidOption(name: "gathersStatistics", _, _) = none else {
      Issue.record("\(String(describing: none))")
      return
    }
    // 64 rows are needed, and the four sinks do not count.
    let few = #expect(throws: KVError.self) { try Self.calibration(of: shape, tokens: 67) }
    guard case .codec(.invalidTransform(let reason)) = few else {
      Issue.record("\(String(describing: few))")
      return
    }
    #expect(reason == "63 rows of keys seen; 64 are needed")
    _ = try Self.calibration(of: shape, tokens: 68)
  }

  // MARK: - Sequences

  /// Cut anywhere, in the middle of sealed pages too, and continued.
  @Test(
    arguments: [
      "rotated:3@rotation=aligned", "trellis:2@rotation=aligned",
      "trellis:3@rotation=aligned@mean=removed",
    ]
  )
  func truncation(codec: String) throws {
    let shape = Self.shape(headDim: 64)
    let text = codec + "@page_tokens=16@recent=10@exact_rows=float32@sinks=3"
    let cache = try KVCache(
      model: shape,
      policy: Policy(argument: text),
      threads: 1,
      catalogue: Self.catalogue(of: shape)
    )
    let rows = SlopingRows(130, shape: shape, seed: 6)
    let whole = cache.makeSequence()
    try rows.append(0..<130, by: 9, to: whole)
    let before = try whole.decodedRows(layer: 0)
    let queries = Self.queries(shape: shape)
    let output = try whole.attended(queries)
    for position in stride(from: 0, through: 130, by: 5) {
      let sequence = whole.fork()
      try sequence.truncate(to: position)
      #expect(sequence.tokenCount == position)
      let length = position * 128
      let cut = try sequence.decodedRows(layer: 0)
      #expect(cut.keys == Array(before.keys[..<length]), "keys up to \(position)")
      #expect(cut.values == Array(before.values[..<length]), "values up to \(position)")
      try rows.append(position..<130, by: 40, to: sequence)
      try expectReferenceAttention(of: sequence, queries, "continued from \(position)")
    }
    #expect(try whole.attended(queries) == output)
  }

  @Test func forks() throws {
    let shape = Self.shape(headDim: 64)
    let cache = try KVCache(
      model: shape,
      policy: Policy(argument: "trellis:3@rotation=aligned@page_tokens=16@sinks=5@recent=8"),
      threads: 1,
      catalogue: Self.catalogue(of: shape)
    )
    let common = SlopingRows(90, shape: shape, seed: 7)
    let branches = (8..<10).map { SlopingRows(60, shape: shape, seed: $0) }
    let queries = Self.queries(shape: shape)
    let trunk = cache.makeSequence()
    try common.append(0..<90, by: 23, to: trunk)
    let before = try trunk.attended(queries)
    let forks = branches.map { _ in trunk.fork() }
    for first in stride(from: 0, to: 60, by: 10) {
      for (fork, rows) in zip(forks, branches) { try rows.append(first..<first + 10, to: fork) }
    }
    #expect(try trunk.attended(queries) == before)
    for (fork, rows) in zip(forks, branches) {
      let alone = cache.makeSequence()
      try common.append(0..<90, by: 23, to: alone)
      try rows.append(0..<60, by: 10, to: alone)
      #expect(try fork.attended(queries) == alone.attended(queries))
      #expect(fork.statistics == alone.statistics)
      try expectReferenceAttention(of: fork, queries)
    }
  }

  @Test func threadsDoNotChangeAnything() throws {
    let shape = Self.shape(headDim: 64)
    let catalogue = try Self.catalogue(of: shape)
    let rows = SlopingRows(2_000, shape: shape, seed: 11)
    let queries = Self.queries(12, shape: shape)
    let outputs = try [1, 3].map { threads in
      let cache = try KVCache(
        model: shape,
        policy: Policy(argument: "rotated:3@rotation=aligned"),
        threads: threads,
        catalogue: catalogue
      )
      let sequence = cache.makeSequence()
      try rows.append(0..<2_000, by: 500, to: sequence)
      return try sequence.attended(queries)
    }
    #expect(outputs[0] == outputs[1])
  }
}
