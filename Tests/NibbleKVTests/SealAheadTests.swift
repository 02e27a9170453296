import NibbleKV
import Testing

/// Small appends encode a page strip by strip before it is due; what a sequence holds does not show it.
@Suite struct SealAheadTests {
  static let shape = ModelShape(layers: 1, queryHeads: 8, kvHeads: 8, headDim: 16)

  private static func sequence(_ codec: Watched, recent: Int) throws -> KVSequence {
    var catalogue = CodecCatalogue()
    try catalogue.register(codec)
    let policy = try Policy(
      argument: "watched@sinks=3@page_tokens=32@recent=\(recent)",
      catalogue: catalogue
    )
    return try KVCache(model: shape, policy: policy, threads: 1, catalogue: catalogue)
      .makeSequence()
  }

  /// A page has sixteen strips; the window says over how many tokens they spread.
  @Test(arguments: [(1, 16), (2, 8), (8, 2), (20, 1), (32, 1), (100, 1)])
  func noTokenWaitsForAPage(recent: Int, most: Int) throws {
    let codec = Watched()
    let sequence = try Self.sequence(codec, recent: recent)
    let rows = TokenRows(400, shape: Self.shape, seed: 1)
    var strips = 0
    for token in 0..<400 {
      try rows.append(token..<token + 1, to: sequence)
      let encoded = codec.takeCount()
      #expect(encoded <= most, "token \(token)")
      strips += encoded
    }
    let pages = sequence.statistics.compressedTokens / 32
    #expect(pages == (399 - 3 - recent) / 32)
    #expect(strips >= pages * 16 && strips <= (pages + 1) * 16)
  }

  /// Without a window there is no time between the last row of a page and its sealing.
  @Test func withoutAWindowAPageIsSealedAtOnce() throws {
    let codec = Watched()
    let sequence = try Self.sequence(codec, recent: 0)
    let rows = TokenRows(70, shape: Self.shape, seed: 1)
    let counts = try (0..<70).map { token in
      try rows.append(token..<token + 1, to: sequence)
      return codec.takeCount()
    }
    #expect(counts.indices.filter { counts[$0] > 0 } == [35, 67])
    #expect(counts[35] == 16 && counts[67] == 16)
  }

  @Test func prefillDoesNotEncodeAhead() throws {
    let codec = Watched()
    let sequence = try Self.sequence(codec, recent: 32)
    try TokenRows(320, shape: Self.shape, seed: 1).append(0..<320, by: 40, to: sequence)
    let pages = sequence.statistics.compressedTokens / 32
    #expect(pages == (280 - 3 - 32) / 32)
    #expect(codec.takeCount() == pages * 16)
  }

  /// Speculative decoding: some of the new tokens are taken back again and again.
  @Test(arguments: ["rotated:4@mean=removed", "clustered:3@mean=removed", "linear:2"])
  func whatIsTakenBackLeavesNoTrace(codec: String) throws {
    let policy = try Policy(argument: codec + "@page_tokens=16@recent=16@sinks=2")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 2)
    let rows = TokenRows(220, shape: Self.shape, seed: 2, mean: 0.5)
    let plain = cache.makeSequence()
    try rows.append(0..<201, by: 1, to: plain)
    let speculative = cache.makeSequence()
    for first in stride(from: 0, to: 198, by: 3) {
      // Two tokens are rejected; then the page before the window never loses rows.
      try rows.append(first..<first + 5, by: 5, to: speculative)
      try speculative.truncate(to: first + 3)
    }
    try rows.append(198..<201, by: 1, to: speculative)
    let queries = randomQueries(shape: Self.shape)
    #expect(speculative.statistics == plain.statistics)
    #expect(try speculative.attended(queries) == plain.attended(queries))
    #expect(try speculative.decodedRows(layer: 0) == plain.decodedRows(layer: 0))
  }

  /// Forks taken at every token go on with a half encoded page, each with its own copy.
  @Test func forksShareWhatIsEncoded() throws {
    let codec = Watched()
    let trunk = try Self.sequence(codec, recent: 32)
    let rows = TokenRows(200, shape: Self.shape, seed: 3)
    let queries = randomQueries(shape: Self.shape)
    try rows.append(0..<90, by: 1, to: trunk)
    var forks: [KVSequence] = []
    for token in 90..<110 {
      forks.append(trunk.fork())
      try rows.append(token..<token + 1, to: trunk)
    }
    for (index, fork) in forks.enumerated() { try rows.append(90 + index..<200, by: 1, to: fork) }
    try rows.append(110..<200, by: 1, to: trunk)
    for fork in forks {
      #expect(try fork.attended(queries) == trunk.attended(queries))
      #expect(fork.statistics == trunk.statistics)
    }
  }
}
