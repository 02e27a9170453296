import NibbleKV
import Testing

/// Many tasks on one cache: the same results as one after the other.
@Suite struct ConcurrencyTests {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 32)

  /// A life of a sequence: growing, attending, branching, being cut.
  private static func live(_ sequence: KVSequence, seed: UInt64) throws -> [[Float]] {
    let rows = TokenRows(400, shape: shape, seed: seed)
    let queries = randomQueries(2, shape: shape, seed: seed)
    var outputs: [[Float]] = []
    func append(_ tokens: Range<Int>, to sequence: KVSequence) throws {
      for layer in 0..<2 {
        try rows.append(tokens, to: sequence, layer: layer)
        outputs.append(try sequence.attended(queries, layer: layer))
      }
    }
    for first in stride(from: 0, to: 300, by: 50) { try append(first..<first + 50, to: sequence) }
    let branch = sequence.fork()
    try sequence.truncate(to: 100 + Int(seed) * 7)
    try append(300..<350, to: sequence)
    try append(350..<400, to: branch)
    outputs.append(try sequence.attended(queries))
    return outputs
  }

  @Test(arguments: ["rotated:4@mean=removed", "clustered:3", "float32"], [1, 3])
  func sequencesSideBySide(policy: String, threads: Int) async throws {
    let policy = try Policy(argument: policy + "@page_tokens=16@recent=20")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: threads)
    let expected = try (0..<8).map { try Self.live(cache.makeSequence(), seed: $0) }
    try await withThrowingTaskGroup(of: (Int, [[Float]]).self) { group in
      for index in 0..<16 {
        group.addTask { (index, try Self.live(cache.makeSequence(), seed: UInt64(index % 8))) }
      }
      for try await (index, outputs) in group { #expect(outputs == expected[index % 8]) }
    }
    #expect(cache.statistics.pageCount == 0)
    #expect(cache.statistics.sequenceCount == 0)
  }

  /// One sequence asked, forked and measured by many while it grows.
  @Test func oneSequenceManyTasks() async throws {
    let policy = try Policy(argument: "linear:4@page_tokens=16@recent=20")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 2)
    let trunk = cache.makeSequence()
    let rows = TokenRows(500, shape: Self.shape, seed: 1)
    for layer in 0..<2 { try rows.append(0..<200, by: 33, to: trunk, layer: layer) }
    let queries = randomQueries(shape: Self.shape)
    let expected = try trunk.attended(queries, layer: 1)
    let grown = trunk.fork()
    try rows.append(200..<300, by: 10, to: grown, layer: 1)
    let expectedOfBranches = try grown.attended(queries, layer: 1)
    try await withThrowingTaskGroup(of: Void.self) { group in
      // Layer 0 grows while layer 1 is asked and branches grow it.
      group.addTask { try rows.append(200..<500, by: 3, to: trunk, layer: 0) }
      for _ in 0..<8 {
        group.addTask {
          for _ in 0..<10 { #expect(try trunk.attended(queries, layer: 1) == expected) }
          let branch = trunk.fork()
          try rows.append(200..<300, by: 10, to: branch, layer: 1)
          #expect(try branch.attended(queries, layer: 1) == expectedOfBranches)
          #expect(trunk.statistics.tokens == 200)
          #expect(try trunk.decodedRows(layer: 1).keys.count == 200 * 64)
        }
      }
      try await group.waitForAll()
    }
    #expect(try trunk.attended(queries, layer: 1) == expected)
  }

  /// Tasks that compete for a budget: some are refused, nobody is harmed.
  @Test func tasksCompeteForABudget() async throws {
    let shape = ModelShape(layers: 1, queryHeads: 8, kvHeads: 8, headDim: 64)
    let scratch = try KVCache(model: shape, policy: .float16, threads: 1).statistics.heldBytes
    let budget = ByteBudget.bytes(12 * scratch + (10 << 20))
    let cache = try KVCache(model: shape, policy: .float16, budget: budget, threads: 1)
    let rows = TokenRows(1600, shape: shape, seed: 1)
    let queries = randomQueries(shape: shape)
    let full = try KVCache(model: shape, policy: .float16, threads: 1).makeSequence()
    try rows.append(0..<1600, to: full)
    let expected = try full.attended(queries)
    let refusals = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<8 {
        group.addTask {
          var sequence = cache.makeSequence()
          var refusals = 0
          while sequence.tokenCount < 1600, refusals < 20 {
            let first = sequence.tokenCount
            do {
              try rows.append(first..<first + 100, to: sequence)
            } catch .budgetExceeded {
              refusals += 1
              #expect(sequence.tokenCount == first)
              sequence = cache.makeSequence()
              await Task.yield()
            }
          }
          if sequence.tokenCount == 1600 { #expect(try sequence.attended(queries) == expected) }
          return refusals
        }
      }
      return try await group.reduce(0, +)
    }
    #expect(refusals > 0)
    #expect(cache.statistics.pageCount == 0)
    #expect(cache.statistics.heldBytes <= 12 * scratch)
  }
}
