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

  /// Calls over several sequences, one of which grows meanwhile and each of which is forked, among calls over one.
  @Test(arguments: ["rotated:4@mean=removed", "float16"], [1, 4])
  func batchesBesideEverythingElse(policy: String, threads: Int) async throws {
    let policy = try Policy(argument: policy + "@page_tokens=16@recent=20")
    let cache = try KVCache(model: Self.shape, policy: policy, threads: threads)
    let rows = TokenRows(330, shape: Self.shape, seed: 5)
    let queries = randomQueries(shape: Self.shape)
    let still = cache.makeSequence()
    try rows.append(0..<330, by: 50, to: still)
    let ofStill = try still.attended(queries)
    let growing = cache.makeSequence()
    try rows.append(0..<30, to: growing)
    let twin = growing.fork()
    var ofGrowing = [try twin.attended(queries)]
    for token in 30..<330 {
      try rows.append(token..<token + 1, to: twin)
      ofGrowing.append(try twin.attended(queries))
    }
    let expected = ofGrowing
    let lives = try (0..<4).map { try Self.live(cache.makeSequence(), seed: $0) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask { try rows.append(30..<330, by: 1, to: growing) }
      for index in 0..<4 {
        group.addTask {
          let outputs = try Self.live(cache.makeSequence(), seed: UInt64(index))
          #expect(outputs == lives[index])
        }
        group.addTask {
          var length = 0
          for _ in 0..<60 {
            let fork = still.fork()
            let outputs = try cache.attended(
              [still, growing, fork],
              queries + queries + queries
            )
            #expect(Array(outputs.prefix(queries.count)) == ofStill)
            #expect(Array(outputs.suffix(queries.count)) == ofStill)
            // What it held at some moment, no earlier than the last.
            let middle = Array(outputs[queries.count..<2 * queries.count])
            length = try #require(expected[length...].firstIndex(of: middle))
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(try growing.attended(queries) == expected.last)
  }

  /// Eight tasks fill sequences of which three fit: those that are refused let go, and nobody is harmed.
  @Test func tasksCompeteForABudget() async throws {
    // A sequence has 25 pages of 131,072 bytes and a sink page of 32,768.
    let shape = ModelShape(layers: 1, queryHeads: 8, kvHeads: 8, headDim: 64)
    let free = try KVCache(model: shape, policy: .float16, threads: 1)
    let budget = ByteBudget.bytes(free.statistics.heldBytes + (10 << 20))
    let cache = try KVCache(model: shape, policy: .float16, budget: budget, threads: 1)
    let rows = TokenRows(1600, shape: shape, seed: 1)
    var filled = try await withThrowingTaskGroup(of: KVSequence?.self) { group in
      for _ in 0..<8 {
        group.addTask {
          let sequence = cache.makeSequence()
          for first in stride(from: 0, to: 1600, by: 100) {
            do {
              try rows.append(first..<first + 100, to: sequence)
            } catch KVError.budgetExceeded {
              #expect(sequence.tokenCount == first)
              return nil
            }
          }
          return sequence
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }.compactMap { $0 }
    }
    #expect((1...3).contains(filled.count))
    let queries = randomQueries(shape: shape)
    let alone = free.makeSequence()
    try rows.append(0..<1600, to: alone)
    let expected = try alone.attended(queries)
    for sequence in filled { #expect(try sequence.attended(queries) == expected) }
    filled = []
    #expect(cache.statistics.pageCount == 0)
  }
}
