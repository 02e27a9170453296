import NibbleKV
import Testing

/// Sequences cut off anywhere, and continued.
@Suite struct TruncateTests {
  static let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 16)

  @Test(
    arguments: ["linear:4", "rotated:4@mean=removed", "k=int8+v=clustered:3", "float32"],
    [0, 5, 20]
  )
  func everywhere(codec: String, sinks: Int) throws {
    let text = codec + "@page_tokens=16@recent=10@exact_rows=float32@sinks=\(sinks)"
    let cache = try KVCache(model: Self.shape, policy: Policy(argument: text), threads: 1)
    let rows = TokenRows(150, shape: Self.shape, seed: 1, mean: 0.4)
    let whole = cache.makeSequence()
    try rows.append(0..<150, by: 9, to: whole)
    let before = try whole.decodedRows(layer: 0)
    let queries = randomQueries(shape: Self.shape)
    let output = try whole.attended(queries)
    for position in 0...150 {
      let sequence = whole.fork()
      try sequence.truncate(to: position)
      #expect(sequence.tokenCount == position)
      let length = position * 32
      let cut = try sequence.decodedRows(layer: 0)
      #expect(cut.keys == Array(before.keys[..<length]), "keys up to \(position)")
      #expect(cut.values == Array(before.values[..<length]), "values up to \(position)")
      try rows.append(position..<150, by: 40, to: sequence)
      try expectReferenceAttention(of: sequence, queries)
      // Rows that were exact when they were cut are the same as without the cut.
      #expect(sequence.tokenCount == 150)
      #expect(sequence.statistics.sinkBytes == whole.statistics.sinkBytes)
    }
    #expect(try whole.attended(queries) == output)
  }

  private func expectReferenceAttention(of sequence: KVSequence, _ queries: [Float]) throws {
    let rows = try sequence.decodedRows(layer: 0)
    let truth = ReferenceAttention.attend(
      queries: queries,
      keys: rows.keys,
      values: rows.values,
      shape: sequence.shape
    )
    #expect(relativeError(try sequence.attended(queries), truth) < 2e-2)
  }

  /// With float16 tails a cut page is rounded once more, and values at the limit stay finite.
  @Test func largestValuesStayFinite() throws {
    let policy = try Policy(argument: "linear:2@page_tokens=16@recent=0@sinks=0")
    let sequence = try KVCache(model: Self.shape, policy: policy, threads: 1).makeSequence()
    let signs = TokenRows(40, shape: Self.shape, seed: 1)
    let keys = signs.keys.map { $0 < 0 ? Float(-65504) : 65504 }
    let values = signs.values.map { $0 < 0 ? Float(-65504) : 65504 }
    try sequence.append(keys: keys.span, values: values.span, layer: 0)
    try signs.append(0..<1, to: sequence)
    #expect(sequence.statistics.compressedTokens == 32)
    for position in [31, 20, 1] {
      try sequence.truncate(to: position)
      let rows = try sequence.decodedRows(layer: 0)
      #expect((rows.keys + rows.values).allSatisfy { $0.isFinite })
    }
    let queries = randomQueries(shape: Self.shape).map { $0 * 1e-6 }
    #expect(try sequence.attended(queries).allSatisfy { $0.isFinite })
  }

  @Test func memoryComesBack() throws {
    let cache = try KVCache(model: Self.shape, policy: .balanced, threads: 1)
    let empty = cache.statistics.heldBytes
    let sequence = cache.makeSequence()
    try TokenRows(1000, shape: Self.shape, seed: 1).append(0..<1000, by: 100, to: sequence)
    #expect(cache.statistics.pageCount > 0)
    try sequence.truncate(to: 0)
    #expect(sequence.statistics.totalBytes == 0)
    #expect(cache.statistics.pageCount == 0)
    #expect(cache.statistics.heldBytes == empty)
  }

  /// A layer that is ahead (an append to the next one failed) is cut to what all layers have.
  @Test func layersAreCutToOneLength() throws {
    let shape = ModelShape(layers: 3, queryHeads: 2, kvHeads: 1, headDim: 8)
    let sequence = try KVCache(model: shape, policy: .small, threads: 1).makeSequence()
    let rows = TokenRows(200, shape: shape, seed: 1)
    try rows.append(0..<200, to: sequence, layer: 0)
    try rows.append(0..<150, to: sequence, layer: 1)
    try rows.append(0..<100, to: sequence, layer: 2)
    #expect(sequence.tokenCount == 100)
    try sequence.truncate(to: 100)
    let counts = try (0..<3).map { try sequence.decodedRows(layer: $0).keys.count }
    #expect(counts == [800, 800, 800])
  }

  @Test(arguments: [-1, 101, Int.min, Int.max])
  func positionsThatDoNotExist(position: Int) throws {
    let sequence = try KVCache(model: Self.shape, policy: .small, threads: 1).makeSequence()
    try TokenRows(100, shape: Self.shape, seed: 1).append(0..<100, to: sequence)
    let error = #expect(throws: KVError.self) { try sequence.truncate(to: position) }
    guard case .positionOutOfRange(position, tokens: 100) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(sequence.tokenCount == 100)
  }
}
