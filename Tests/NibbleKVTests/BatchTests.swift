import NibbleKV
import Testing

/// Attention of several sequences at once: bit for bit what each gives alone.
@Suite struct BatchTests {
  /// Lengths on both sides of a page, of the window of exact rows and of the split into segments.
  static let lengths = [1, 2_300, 17, 64, 700, 4_200, 65, 5]

  @Test(
    arguments: ["float32", "rotated:4@mean=removed", "clustered:3", "k=bcq:3+v=linear:4"],
    [(1, 1), (4, 3), (1, 3), (4, 1)]
  )
  func equalsOneAfterTheOther(policy: String, setup: (threads: Int, group: Int)) throws {
    let (threads, group) = setup
    let shape = ModelShape(layers: 2, queryHeads: 2 * group, kvHeads: 2, headDim: 32)
    let policy = try Policy(argument: policy + "@page_tokens=16@recent=20@sinks=3")
    let cache = try KVCache(model: shape, policy: policy, threads: threads)
    var sequences = try Self.lengths.enumerated().map { index, length in
      let sequence = cache.makeSequence()
      let rows = TokenRows(length, shape: shape, seed: UInt64(index), mean: 0.2)
      for layer in 0..<2 { try rows.append(0..<length, by: 500, to: sequence, layer: layer) }
      return sequence
    }
    sequences += [sequences[3].fork(), sequences[1]]
    for options in [AttentionOptions.standard, AttentionOptions(window: 50, softCap: 5)] {
      for layer in 0..<2 {
        let queries = randomQueries(sequences.count, shape: shape, seed: 7)
        let length = queries.count / sequences.count
        let alone = try sequences.enumerated().flatMap { index, sequence in
          let part = Array(queries[index * length..<(index + 1) * length])
          return try sequence.attended(part, layer: layer, options: options)
        }
        #expect(try cache.attended(sequences, queries, layer: layer, options: options) == alone)
      }
    }
  }

  @Test func chunksOfQueries() throws {
    let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 32)
    let cache = try KVCache(model: shape, policy: .balanced, threads: 3)
    let sequences = try [70, 9_000, 300].map { length in
      let sequence = cache.makeSequence()
      try TokenRows(length, shape: shape, seed: 2).append(0..<length, to: sequence)
      return sequence
    }
    let queries = randomQueries(3 * 70, shape: shape)
    let length = queries.count / 3
    let alone = try (0..<3).flatMap { index in
      try sequences[index].attended(Array(queries[index * length..<(index + 1) * length]))
    }
    #expect(try cache.attended(sequences, queries) == alone)
    #expect(try cache.attended(sequences, []) == [])
  }

  @Test func gathersWhatOneByOneGathers() throws {
    let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 16)
    let transforms = try [true, false].map { isBatch in
      let cache = try KVCache(model: shape, policy: .balanced, gathersStatistics: true)
      let sequences = try [300, 500].map { length in
        let sequence = cache.makeSequence()
        try TokenRows(length, shape: shape, seed: UInt64(length)).append(0..<length, to: sequence)
        return sequence
      }
      let queries = randomQueries(400, shape: shape)
      if isBatch {
        _ = try cache.attended(sequences, queries)
      } else {
        _ = try sequences[0].attended(Array(queries.prefix(queries.count / 2)))
        _ = try sequences[1].attended(Array(queries.suffix(queries.count / 2)))
      }
      return try cache.calibration().heads
    }
    #expect(transforms[0] == transforms[1])
  }

  @Test func wrongInput() throws {
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16)
    let cache = try KVCache(model: shape, policy: .balanced, threads: 2)
    let other = try KVCache(model: shape, policy: .balanced, threads: 2)
    let sequences = try [cache, cache, other].map { cache in
      let sequence = cache.makeSequence()
      for layer in 0..<2 {
        try TokenRows(5, shape: shape, seed: 1).append(0..<5, to: sequence, layer: layer)
      }
      return sequence
    }
    let own = Array(sequences.prefix(2))
    let queries = randomQueries(2, shape: shape)
    for layer in [-1, 2, .max] {
      #expect(
        message { _ = try cache.attended(own, queries, layer: layer) }
          == "layer \(layer) does not exist; the model has layers 0 to 1"
      )
    }
    #expect(
      message { _ = try cache.attended([], queries) }
        == "the number of sequences cannot be 0; expected at least 1"
    )
    #expect(
      message { _ = try cache.attended(sequences, randomQueries(3, shape: shape)) }
        == "sequence 2 of 3 cannot be one of another cache; expected one of this cache"
    )
    #expect(
      message { _ = try cache.attended(own, randomQueries(3, shape: shape)) }
        == "queries: 192 values where a multiple of 128 are needed"
    )
    #expect(
      message { _ = try cache.attended(own, queries, outputCount: 127) }
        == "output: 127 values where 128 are needed"
    )
    #expect(
      message { _ = try cache.attended(own, randomQueries(12, shape: shape)) }
        == "queries of 6 tokens, but the layer holds 5"
    )
    var bad = queries
    bad[64 + 16 + 3] = .nan
    #expect(
      message { _ = try cache.attended(own, bad) }?.hasPrefix(
        "query of sequence 1 of layer 0, new token 0, head 1, channel 3 is nan"
      ) == true
    )
    let options = AttentionOptions(window: 0)
    #expect(
      message { _ = try cache.attended(own, queries, options: options) }
        == "window cannot be 0; expected at least 1"
    )
    // And the next call is as if nothing had been.
    let alone = try own[1].attended(Array(queries.suffix(64)))
    #expect(try cache.attended(own, queries).suffix(64) == alone[...])
  }

  /// The description of the error that `body` throws.
  private func message(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return error is KVError ? "\(error)" : nil
    }
  }
}

extension KVCache {
  /// Attention of several sequences as an array.
  func attended(
    _ sequences: [KVSequence],
    _ queries: [Float],
    layer: Int = 0,
    options: AttentionOptions = .standard,
    outputCount: Int? = nil
  ) throws(KVError) -> [Float] {
    var output = [Float](repeating: .nan, count: outputCount ?? queries.count)
    var span = output.mutableSpan
    try attend(sequences, queries: queries.span, layer: layer, options: options, into: &span)
    return output
  }
}
