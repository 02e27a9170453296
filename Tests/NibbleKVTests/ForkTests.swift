import NibbleKV
import Testing

/// Forks share pages and never disturb each other.
@Suite struct ForkTests {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 32)

  /// Forks hold nothing of their own until they are appended to, and then a page of each layer.
  @Test func aThousandForksShareAllPages() throws {
    let filled = try Filled(
      shape: Self.shape,
      policy: Policy(argument: "rotated:4"),
      tokens: 4_000,
      chunk: 500
    )
    // What the last chunk left due is sealed once, not by each fork.
    try Self.append(TokenRows(1, shape: Self.shape, seed: 9), 0..<1, to: filled.sequence)
    let before = filled.cache.statistics
    let forks = (0..<1_000).map { _ in filled.sequence.fork() }
    #expect(filled.cache.statistics.heldBytes == before.heldBytes)
    #expect(filled.cache.statistics.pageCount == before.pageCount)
    #expect(filled.cache.statistics.sequenceCount == 1_001)
    let queries = randomQueries(shape: Self.shape)
    let output = try filled.attend(queries)
    for (index, fork) in forks.prefix(10).enumerated() {
      try Self.append(TokenRows(3, shape: Self.shape, seed: UInt64(index)), 0..<3, to: fork)
    }
    // The page that is being filled, and the one that is encoded ahead.
    let own = filled.cache.statistics.pageCount - before.pageCount
    #expect((10...20).contains(own / Self.shape.layers))
    let outputs = try forks.prefix(11).map { try $0.attended(queries) }
    #expect(Set(outputs).count == 11)
    #expect(outputs[10] == output)
    #expect(try filled.attend(queries) == output)
  }

  private static func append(
    _ rows: TokenRows,
    _ tokens: Range<Int>,
    to sequence: KVSequence
  ) throws {
    for layer in 0..<shape.layers {
      try rows.append(tokens, by: 23, to: sequence, layer: layer)
    }
  }

  /// Forked in the sink page, at page boundaries, in the middle of pages, after sealing.
  @Test(
    arguments: [0, 1, 3, 5, 6, 20, 21, 22, 30, 53, 150],
    ["linear:4", "rotated:3@mean=removed"]
  )
  func branchesEqualSequencesOfTheirOwn(tokens: Int, codec: String) throws {
    let policy = try Policy(argument: codec + "@page_tokens=16@sinks=5@recent=8")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 1)
    let common = TokenRows(tokens, shape: Self.shape, seed: 1)
    let branches = (2..<5).map { TokenRows(100, shape: Self.shape, seed: $0) }
    let queries = randomQueries(shape: Self.shape)

    // The trunk goes on too, in turns with its forks.
    let trunk = cache.makeSequence()
    try Self.append(common, 0..<tokens, to: trunk)
    let sequences = [trunk, trunk.fork(), trunk.fork()]
    for first in stride(from: 0, to: 100, by: 10) {
      for (sequence, rows) in zip(sequences, branches) {
        try Self.append(rows, first..<first + 10, to: sequence)
      }
    }
    for (sequence, rows) in zip(sequences, branches) {
      let alone = cache.makeSequence()
      try Self.append(common, 0..<tokens, to: alone)
      for first in stride(from: 0, to: 100, by: 10) {
        try Self.append(rows, first..<first + 10, to: alone)
      }
      for layer in 0..<2 {
        #expect(
          try sequence.attended(queries, layer: layer) == alone.attended(queries, layer: layer)
        )
      }
      #expect(sequence.statistics == alone.statistics)
    }
  }

  @Test func aForkKeepsWhatItSaw() throws {
    let policy = try Policy(argument: "clustered:4@page_tokens=16@sinks=5@recent=8")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 1)
    let sequence = cache.makeSequence()
    let rows = TokenRows(300, shape: Self.shape, seed: 1)
    let queries = randomQueries(shape: Self.shape)
    var kept: [(fork: KVSequence, output: [Float])] = []
    for token in 0..<100 {
      try Self.append(rows, token..<token + 1, to: sequence)
      kept.append((sequence.fork(), try sequence.attended(queries)))
    }
    try Self.append(rows, 100..<300, to: sequence)
    try sequence.truncate(to: 50)
    try Self.append(rows, 200..<300, to: sequence)
    for (fork, output) in kept {
      #expect(try fork.attended(queries) == output)
    }
  }

  @Test func forksTakeNoPagesUntilTheyDiffer() throws {
    let policy = try Policy(argument: "rotated:4")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 1)
    let sequence = cache.makeSequence()
    let rows = TokenRows(2001, shape: Self.shape, seed: 1)
    try Self.append(rows, 0..<2000, to: sequence)
    let before = cache.statistics
    var forks = (0..<100).map { _ in sequence.fork() }
    #expect(cache.statistics.pageCount == before.pageCount)
    #expect(cache.statistics.heldBytes == before.heldBytes)
    #expect(cache.statistics.sequenceCount == 101)
    for fork in forks {
      for layer in 0..<2 { try rows.append(2000..<2001, to: fork, layer: layer) }
    }
    // For each layer a copy of the page that fills up, and pages that are due or nearly so.
    #expect(cache.statistics.pageCount <= before.pageCount + 100 * 2 * 3)
    forks = []
    #expect(cache.statistics == before)
  }

  @Test func pagesOutliveTheSequenceThatMadeThem() throws {
    let cache = try KVCache(model: Self.shape, policy: .small, threads: 1)
    let rows = TokenRows(500, shape: Self.shape, seed: 1)
    let queries = randomQueries(shape: Self.shape)
    var sequence: KVSequence? = cache.makeSequence()
    try sequence.map { try Self.append(rows, 0..<500, to: $0) }
    let fork = sequence?.fork()
    let output = try sequence?.attended(queries)
    sequence = nil
    #expect(cache.statistics.sequenceCount == 1)
    #expect(try fork?.attended(queries) == output)
  }
}
