import Testing

@testable import NibbleKV

/// Pages that are encoded again when they are old.
@Suite struct AgeTests {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)

  private static func policy(
    _ base: String,
    _ ages: [(beyond: Int, keys: String?, values: String?)]
  ) throws -> Policy {
    var policy = try Policy(argument: base)
    policy.ages = try ages.map {
      Policy.Age(
        beyond: $0.beyond,
        keys: try $0.keys.map { try Policy(argument: $0).keys },
        values: try $0.values.map { try Policy(argument: $0).values }
      )
    }
    return policy
  }

  private static let ladders: [(String, [(beyond: Int, keys: String?, values: String?)])] = [
    ("int8", [(300, "rotated:4", "linear:4"), (900, "trellis:2", "trellis:2")]),
    ("k=rotated:4+v=rotated:4@mean=removed", [(200, "rotated:2", nil), (600, nil, "rotated:2")]),
    ("linear:4@skip_below=0.01", [(200, "linear:2@mean=removed", "linear:2@mean=removed")]),
    ("int8", [(256, "pyramid:4", "pyramid:4"), (700, "rotated:2", "rotated:2")]),
  ]

  @Test(arguments: 0..<4)
  func attentionIsThatOverTheDecodedRows(ladder: Int) throws {
    let policy = try Self.policy(Self.ladders[ladder].0, Self.ladders[ladder].1)
    let filled = try Filled(shape: Self.shape, policy: policy, tokens: 2_000, mean: 0.5)
    let queries = randomQueries(3, shape: Self.shape)
    for layer in 0..<2 {
      let error = relativeError(
        try filled.attend(queries, layer: layer),
        try filled.reference(queries, layer: layer)
      )
      #expect(error < 2e-2)
    }
    // Every rung has pages, the oldest the fewest bits.
    let state = filled.sequence.snapshot(layer: 0)
    #expect(state.agedCounts.allSatisfy { $0 > 0 && $0 < state.sealedCount })
    #expect(state.agedCounts.sorted(by: >) == state.agedCounts)
    let sizes = (0..<state.sealedCount).map { state.pages[$0].byteCount }
    #expect(sizes.sorted() == sizes && Set(sizes).count == state.agedCounts.count + 1)
  }

  @Test(arguments: [1, 7, 64, 500])
  func itFollowsFromTheTokensAlone(chunk: Int) throws {
    let policy = try Self.policy(Self.ladders[0].0, Self.ladders[0].1)
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 3)
    let other = cache.makeSequence()
    // The same rows, cut otherwise, up to the same number of tokens before the last append.
    let all = TokenRows(1_501, shape: Self.shape, seed: 3)
    let lone = cache.makeSequence()
    for each in [(lone, 100), (other, chunk)] {
      for layer in 0..<2 {
        try all.append(0..<1_500, by: each.1, to: each.0, layer: layer)
        try all.append(1_500..<1_501, to: each.0, layer: layer)
      }
    }
    for layer in 0..<2 {
      let (a, b) = (try lone.decodedRows(layer: layer), try other.decodedRows(layer: layer))
      #expect(a.keys == b.keys && a.values == b.values)
    }
  }

  @Test(arguments: 0..<4) func thePlannerKnows(ladder: Int) throws {
    let policy = try Self.policy(Self.ladders[ladder].0, Self.ladders[ladder].1)
    let filled = try Filled(shape: Self.shape, policy: policy, tokens: 3_000)
    let estimate = try filled.cache.plan.estimate(context: 3_000, chunk: 100, threads: 1)
    let statistics = filled.sequence.statistics
    let pages = estimate.codes + estimate.tables + estimate.scales
    #expect(abs(statistics.pageBytes - pages) <= pages / 50)
    #expect(filled.cache.statistics.heldBytes <= estimate.total)
    #expect(filled.cache.plan.notes.contains { $0.contains("beyond the newest") })
  }

  @Test func cutsAndForksGoThroughAgedPages() throws {
    let policy = try Self.policy(
      "int8",
      [(200, "rotated:4", "rotated:4"), (500, "rotated:2", "rotated:2")]
    )
    let filled = try Filled(shape: Self.shape, policy: policy, tokens: 1_200)
    let fork = filled.sequence.fork()
    let queries = randomQueries(1, shape: Self.shape)
    let before = try filled.attend(queries)
    let rows = TokenRows(600, shape: Self.shape, seed: 9)
    for cut in [1_000, 613, 130, 70, 5] {
      let all = try fork.decodedRows(layer: 0).keys
      try fork.truncate(to: cut)
      let kept = try fork.decodedRows(layer: 0).keys
      #expect(kept.count == cut * 128)
      // Rows of the cut page are float16 now.
      #expect(relativeError(kept, all[..<kept.count].map(Double.init)) < 1e-3)
      for layer in 0..<2 { try rows.append(0..<cut / 2, by: 50, to: fork, layer: layer) }
      let error = relativeError(try fork.attended(queries), try reference(fork, queries))
      #expect(error < 2e-2)
    }
    #expect(try filled.attend(queries) == before)
  }

  private func reference(_ sequence: KVSequence, _ queries: [Float]) throws -> [Double] {
    let rows = try sequence.decodedRows(layer: 0)
    return ReferenceAttention.attend(
      queries: queries,
      keys: rows.keys,
      values: rows.values,
      shape: Self.shape,
      options: .standard
    )
  }

  /// Without a disk, ages are what is left before a budget refuses.
  @Test func pressureAgesPagesEarly() throws {
    let never = ModelShape.tokenLimit
    let plain = try Policy(argument: "int8")
    let aging = try Self.policy(
      "int8",
      [(never - 1, "rotated:4", "rotated:4"), (never, "trellis:2", "trellis:2")]
    )
    let budget = ByteBudget.mebibytes(16)
    func fill(_ policy: Policy) throws -> (cache: KVCache, sequences: [KVSequence]) {
      let cache = try KVCache(
        model: Self.shape,
        policy: policy,
        budget: budget,
        prefixLimit: .bytes(0),
        threads: 1
      )
      let sequences = [cache.makeSequence(), cache.makeSequence()]
      let rows = TokenRows(60_000, shape: Self.shape, seed: 1)
      do {
        for first in stride(from: 0, to: rows.count, by: 200) {
          for sequence in sequences {
            for layer in 0..<2 { try rows.append(first..<first + 200, to: sequence, layer: layer) }
            #expect(cache.statistics.heldBytes <= budget.byteLimit!)
          }
        }
      } catch {
        guard case KVError.budgetExceeded = error else { throw error }
      }
      return (cache, sequences)
    }
    let without = try fill(plain)
    let with = try fill(aging)
    let tokens = (without.sequences[0].tokenCount, with.sequences[0].tokenCount)
    // Two bits instead of eight, less the slabs that are kept.
    #expect(tokens.1 > 2 * tokens.0)
    let queries = randomQueries(1, shape: Self.shape)
    for sequence in with.sequences {
      let error = relativeError(try sequence.attended(queries), try reference(sequence, queries))
      #expect(error < 2e-2)
    }
  }

  @Test func valuesRotateInOneWay() throws {
    let policy = try Self.policy(
      "k=linear:4+v=linear:4@v.rotation=hadamard",
      [(100, nil, "rotated:2")]
    )
    #expect(throws: Never.self) { try Plan(policy: policy, shape: Self.shape) }
    let plan = try Plan(
      policy: Self.policy("float16", [(100, "rotated:2", "rotated:2")]),
      shape: Self.shape
    )
    // Exact rows stay exact.
    #expect(plan.layers.allSatisfy { $0.rungs.count == 1 })
  }
}
