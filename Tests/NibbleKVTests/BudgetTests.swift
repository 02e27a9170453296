import NibbleKV
import Testing

/// The byte budget: typed errors with numbers, and sequences that go on afterwards.
@Suite struct BudgetTests {
  /// An exact page has 8 x 64 x 128 x 2 half-precision values, 262,144 bytes: eight in a slab.
  static let shape = ModelShape(layers: 1, queryHeads: 8, kvHeads: 8, headDim: 128)
  static let slab = 2 << 20

  /// Exact rows without sinks, so that all pages have one size.
  private static let exactPages = Policy(keys: .float16, values: .float16, sinks: 0)

  private static func cache(_ policy: Policy, slabs: Int) throws -> KVCache {
    let scratch = try KVCache(model: shape, policy: policy, threads: 1).statistics.heldBytes
    let budget = ByteBudget.bytes(scratch + slabs * slab)
    return try KVCache(model: shape, policy: policy, budget: budget, threads: 1)
  }

  @Test func tooSmallForWorkingMemory() throws {
    for limit in [0, 1, 100_000] {
      let error = #expect(throws: KVError.self) {
        try KVCache(model: Self.shape, policy: .balanced, budget: .bytes(limit), threads: 2)
      }
      guard case .budgetExceeded(let needed, heldBytes: 0, limitBytes: limit) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(needed > limit)
      #expect(error.map { "\($0)" }?.contains("\(needed)") == true)
    }
    #expect(ByteBudget.bytes(-5) == .bytes(0))
    #expect(ByteBudget.mebibytes(3) == .bytes(3 << 20))
    #expect(ByteBudget.gibibytes(.max).byteLimit == .max)
    #expect(ByteBudget.unlimited.byteLimit == nil)
  }

  @Test func anAppendThatDoesNotFitChangesNothing() throws {
    let cache = try Self.cache(Self.exactPages, slabs: 2)
    let rows = TokenRows(1100, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    // Sixteen pages.
    try rows.append(0..<1000, by: 100, to: sequence)
    let queries = randomQueries(shape: Self.shape)
    let output = try sequence.attended(queries)
    let statistics = sequence.statistics
    let held = cache.statistics
    for _ in 0..<2 {
      let error = #expect(throws: KVError.self) { try rows.append(1000..<1100, to: sequence) }
      guard case .budgetExceeded(Self.slab, heldBytes: held.heldBytes, let limit) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(limit == cache.budget.byteLimit)
      #expect(sequence.statistics == statistics)
      #expect(cache.statistics == held)
      #expect(try sequence.attended(queries) == output)
    }
    // What still fits is taken.
    try rows.append(1000..<1024, to: sequence)
    #expect(sequence.tokenCount == 1024)
    #expect(throws: KVError.self) { try rows.append(1024..<1025, to: sequence) }
  }

  @Test func anotherSequenceMakesRoom() throws {
    let cache = try Self.cache(Self.exactPages, slabs: 2)
    let rows = TokenRows(600, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    var other: KVSequence? = cache.makeSequence()
    try rows.append(0..<500, to: sequence)
    if let other { try rows.append(0..<500, to: other) }
    let queries = randomQueries(shape: Self.shape)
    let output = try sequence.attended(queries)
    #expect(throws: KVError.self) { try rows.append(500..<600, to: sequence) }
    #expect(try sequence.attended(queries) == output)
    #expect(try other?.attended(queries) == output)
    other = nil
    try rows.append(500..<600, to: sequence)
    #expect(sequence.tokenCount == 600)
    let free = try KVCache(model: Self.shape, policy: Self.exactPages, threads: 1)
    let unlimited = free.makeSequence()
    try rows.append(0..<600, to: unlimited)
    #expect(try sequence.attended(queries) == unlimited.attended(queries))
  }

  /// Sealing frees exact pages, so a compressed sequence outgrows a budget that float16 cannot.
  @Test func sealedPagesMakeRoom() throws {
    let policy = try Policy(argument: "rotated:2@sinks=0@recent=0")
    let cache = try Self.cache(policy, slabs: 2)
    let rows = TokenRows(2048, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    try rows.append(0..<2048, by: 128, to: sequence)
    #expect(sequence.statistics.compressedTokens == 1920)
    #expect(sequence.statistics.totalBytes < 2 * Self.slab)
    #expect(sequence.statistics.exactBytes > 3 * Self.slab)
  }

  /// A long append that fails on the way leaves the sequence bit for bit as it was.
  @Test(arguments: ["float16", "linear:4@mean=removed"])
  func aLongAppendThatFailsOnTheWay(policy: String) throws {
    let cache = try Self.cache(Policy(argument: policy), slabs: 6)
    let rows = TokenRows(8000, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    try rows.append(0..<300, by: 100, to: sequence)
    let queries = randomQueries(shape: Self.shape)
    let output = try sequence.attended(queries)
    let statistics = sequence.statistics
    let pages = cache.statistics.pageCount
    #expect(throws: KVError.self) { try rows.append(300..<8000, to: sequence) }
    #expect(sequence.statistics == statistics)
    #expect(cache.statistics.pageCount == pages)
    #expect(try sequence.attended(queries) == output)
  }

  /// Failing, making room and going on ends where an unlimited cache ends.
  @Test func failuresLeaveNoTrace() throws {
    let policy = try Policy(argument: "linear:4@mean=removed@recent=20")
    let cache = try Self.cache(policy, slabs: 4)
    let free = try KVCache(model: Self.shape, policy: policy, threads: 1).makeSequence()
    let rows = TokenRows(1500, shape: Self.shape, seed: 1)
    var others: [KVSequence] = []
    let sequence = cache.makeSequence()
    var failures = 0
    for first in stride(from: 0, to: 1500, by: 50) {
      let tokens = first..<first + 50
      try rows.append(tokens, to: free)
      // Others fill the cache up until this sequence cannot go on.
      while true {
        let other = cache.makeSequence()
        guard (try? rows.append(0..<60, to: other)) != nil else { break }
        others.append(other)
      }
      do {
        try rows.append(tokens, to: sequence)
      } catch KVError.budgetExceeded {
        failures += 1
        #expect(sequence.tokenCount == first)
        others = []
        try rows.append(tokens, to: sequence)
      }
    }
    #expect(failures > 1)
    let queries = randomQueries(shape: Self.shape)
    #expect(try sequence.attended(queries) == free.attended(queries))
    #expect(sequence.statistics == free.statistics)
  }

  /// Decoding a context long enough to be split into segments takes no more than was planned.
  @Test(arguments: [1, 5])
  func workingMemoryIsPlanned(threads: Int) throws {
    let shape = ModelShape(layers: 1, queryHeads: 6, kvHeads: 2, headDim: 40)
    let policy = try Policy(argument: "rotated:4@page_tokens=16")
    let cache = try KVCache(model: shape, policy: policy, threads: threads)
    let before = cache.statistics.heldBytes
    let rows = TokenRows(5000, shape: shape, seed: 1)
    do {
      let sequence = cache.makeSequence()
      try rows.append(0..<5000, to: sequence)
      _ = try sequence.attended(randomQueries(shape: shape))
    }
    let after = cache.statistics.heldBytes
    #expect(after > before, "the results of the segments count")
    let estimate = try cache.plan.estimate(context: 5000, threads: threads)
    #expect(after <= estimate.scratch)
  }

  @Test func aCutNeedsRoomForOnePage() throws {
    let policy = try Policy(argument: "linear:4@sinks=0@recent=0")
    let cache = try Self.cache(policy, slabs: 2)
    let rows = TokenRows(600, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    try rows.append(0..<450, to: sequence)
    try rows.append(450..<451, to: sequence)
    // Seven pages are sealed. Others take all the room that an exact page needs.
    var others: [KVSequence] = []
    while true {
      let other = cache.makeSequence()
      guard (try? rows.append(0..<60, to: other)) != nil else { break }
      others.append(other)
    }
    let queries = randomQueries(shape: Self.shape)
    let output = try sequence.attended(queries)
    #expect(throws: KVError.self) { try sequence.truncate(to: 100) }
    #expect(sequence.tokenCount == 451)
    #expect(try sequence.attended(queries) == output)
    try sequence.truncate(to: 128)
    #expect(sequence.tokenCount == 128)
  }
}
