import Foundation
import NibbleFiles
import Testing

@testable import NibbleKV

/// The disk tier: sequences beyond the budget, with the same results bit for bit, and failures of the file system.
@Suite struct DiskTests {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
  static let slab = 2 << 20

  /// A cache with room for working memory and `slabs` slabs.
  static func cache(
    _ policy: Policy,
    slabs: Int?,
    calls: FileCalls = .system,
    diskLimit: ByteBudget = .unlimited
  ) throws -> KVCache {
    let scratch = try KVCache(model: shape, policy: policy, threads: 2).statistics.heldBytes
    var disk = DiskTier(folder: NSTemporaryDirectory(), limit: diskLimit)
    disk.calls = calls
    return try KVCache(
      model: shape,
      policy: policy,
      budget: slabs.map { .bytes(scratch + $0 * slab) } ?? .unlimited,
      disk: disk,
      threads: 2
    )
  }

  static func fill(_ sequence: KVSequence, _ rows: TokenRows) throws {
    for first in stride(from: 0, to: rows.count, by: 500) {
      for layer in 0..<shape.layers {
        try rows.append(first..<min(rows.count, first + 500), to: sequence, layer: layer)
      }
    }
  }

  static func attended(_ sequence: KVSequence) throws -> [[Float]] {
    try (0..<shape.layers).map {
      try sequence.attended(randomQueries(3, shape: shape), layer: $0)
    }
  }

  // MARK: - Same results

  @Test(arguments: ["rotated:4@mean=removed", "float16", "k=int8+v=trellis:3@skip_below=0.01"])
  func aSequenceLongerThanTheBudget(policy: String) throws {
    let policy = try Policy(argument: policy)
    let rows = TokenRows(30_000, shape: Self.shape, seed: 1)
    let free = try Self.cache(policy, slabs: nil).makeSequence()
    let tight = try Self.cache(policy, slabs: 3)
    let sequence = tight.makeSequence()
    try Self.fill(free, rows)
    try Self.fill(sequence, rows)
    let limit = try #require(tight.budget.byteLimit)
    #expect(tight.statistics.heldBytes <= limit)
    #expect(sequence.statistics.storedPages > 0)
    #expect(tight.statistics.diskBytes > 0)
    #expect(try Self.attended(sequence) == Self.attended(free))
    #expect(sequence.statistics.storedPages > 0)
    #expect(tight.statistics.heldBytes <= limit)
    for layer in 0..<Self.shape.layers {
      let (a, b) = (try sequence.decodedRows(layer: layer), try free.decodedRows(layer: layer))
      #expect(a.keys == b.keys && a.values == b.values)
    }
    // Cut inside a page that lies in the file, and go on.
    for each in [sequence, free] {
      try each.truncate(to: 10_037)
      for layer in 0..<Self.shape.layers { try rows.append(0..<300, to: each, layer: layer) }
    }
    #expect(try Self.attended(sequence) == Self.attended(free))
  }

  @Test func idleSequencesMakeRoom() throws {
    let policy = try Policy(argument: "linear:4")
    let cache = try Self.cache(policy, slabs: 3)
    let free = try Self.cache(policy, slabs: nil)
    let rows = (0..<6).map { TokenRows(4_000, shape: Self.shape, seed: UInt64($0)) }
    let sequences = rows.map { _ in cache.makeSequence() }
    let others = rows.map { _ in free.makeSequence() }
    for index in rows.indices {
      try Self.fill(sequences[index], rows[index])
      try Self.fill(others[index], rows[index])
    }
    #expect(sequences[0].statistics.storedPages > 0)
    #expect(sequences[5].statistics.storedPages == 0)
    let limit = try #require(cache.budget.byteLimit)
    for round in 0..<2 {
      for index in rows.indices {
        #expect(try Self.attended(sequences[index]) == Self.attended(others[index]))
        for each in [sequences[index], others[index]] {
          let token = round..<round + 1
          for layer in 0..<2 { try rows[index].append(token, to: each, layer: layer) }
        }
        #expect(cache.statistics.heldBytes <= limit)
      }
    }
  }

  @Test func aSequenceThatWasMovedComesBack() throws {
    let cache = try Self.cache(Policy(argument: "rotated:3"), slabs: nil)
    let sequence = cache.makeSequence()
    try Self.fill(sequence, TokenRows(2_000, shape: Self.shape, seed: 3))
    let output = try Self.attended(sequence)
    let before = cache.statistics
    let fork = sequence.fork()
    try sequence.moveToDisk()
    #expect(cache.statistics.pageCount == before.pageCount)
    try fork.moveToDisk()
    #expect(cache.statistics.pageCount == 0)
    let disk = cache.statistics.diskBytes
    #expect(disk > 0)
    #expect(try Self.attended(sequence) == output)
    #expect(try Self.attended(fork) == output)
    // Sealed pages are shared again, and moving them once more writes nothing.
    let sealed = Self.shape.layers * sequence.statistics.compressedTokens / 64
    #expect(cache.statistics.pageCount <= 2 * before.pageCount - sealed)
    try sequence.moveToDisk()
    try fork.moveToDisk()
    #expect(cache.statistics.diskBytes == disk)
  }

  /// A long layer comes back over several calls, whose outputs are all the same.
  @Test func aLongLayerComesBackBitByBit() throws {
    let shape = ModelShape(layers: 1, queryHeads: 8, kvHeads: 8, headDim: 128)
    let policy = try Policy(argument: "float16")
    let cache = try KVCache(
      model: shape,
      policy: policy,
      disk: DiskTier(folder: NSTemporaryDirectory()),
      threads: 2
    )
    let sequence = cache.makeSequence()
    let rows = TokenRows(1_000, shape: shape, seed: 11)
    for _ in 0..<10 { try rows.append(0..<1_000, to: sequence) }
    let queries = randomQueries(2, shape: shape)
    let output = try sequence.attended(queries)
    try sequence.moveToDisk()
    let pageBytes = 64 * 8 * 128 * 2 * 2
    var held: [Int] = [0]
    while sequence.statistics.storedPages > 0 {
      #expect(try sequence.attended(queries) == output)
      held.append(cache.statistics.pageCount * pageBytes)
      #expect(held[held.count - 1] - held[held.count - 2] <= PageMover.attentionBytes + pageBytes)
      guard held.count < 10 else { break }
    }
    #expect(held.count == 6)
    #expect(try sequence.attended(queries) == output)
  }

  @Test func forksDivergeAfterTheyWereMoved() throws {
    let cache = try Self.cache(Policy(argument: "linear:4"), slabs: nil)
    let rows = TokenRows(700, shape: Self.shape, seed: 5)
    let sequences = [cache.makeSequence(), cache.makeSequence()]
    try Self.fill(sequences[0], rows)
    let fork = sequences[0].fork()
    try Self.fill(sequences[1], rows)
    let other = sequences[1].fork()
    try sequences[0].moveToDisk()
    try fork.moveToDisk()
    for (index, each) in [sequences[0], fork, sequences[1], other].enumerated() {
      let range = index % 2 * 200..<index % 2 * 200 + 150
      for layer in 0..<2 { try rows.append(range, by: 7, to: each, layer: layer) }
    }
    #expect(try Self.attended(sequences[0]) == Self.attended(sequences[1]))
    #expect(try Self.attended(fork) == Self.attended(other))
    #expect(try Self.attended(fork) != Self.attended(sequences[0]))
  }

  @Test func spaceIsUsedAgain() throws {
    let cache = try Self.cache(Policy(argument: "linear:4"), slabs: nil)
    var sequence: KVSequence? = cache.makeSequence()
    try Self.fill(sequence!, TokenRows(1_000, shape: Self.shape, seed: 1))
    try sequence?.moveToDisk()
    let first = cache.statistics
    #expect(first.diskBytes > 0 && first.diskPageBytes > 0)
    sequence = nil
    #expect(cache.statistics.diskBytes == 0)
    #expect(cache.statistics.diskPageBytes == 0)
    sequence = cache.makeSequence()
    try Self.fill(sequence!, TokenRows(1_000, shape: Self.shape, seed: 1))
    try sequence?.moveToDisk()
    #expect(cache.statistics.diskBytes == first.diskBytes)
  }
}

@Suite struct SpaceTests {
  @Test func stretchesNeverOverlap() {
    var random = SeededRandom(9)
    var space = Space(limit: 40_000)
    var used: [Range<Int>] = []
    for _ in 0..<3_000 {
      if used.isEmpty || Bool.random(using: &random) {
        let count = Int.random(in: 1...50, using: &random)
        guard let start = space.take(count) else { continue }
        let range = start..<start + count
        #expect(!used.contains { $0.overlaps(range) })
        #expect(range.upperBound <= space.end)
        used.append(range)
      } else {
        space.release(used.remove(at: Int.random(in: used.indices, using: &random)))
      }
      let free = space.free.reduce(0) { $0 + $1.count }
      #expect(free + used.reduce(0) { $0 + $1.count } == space.end)
      for (a, b) in zip(space.free, space.free.dropFirst()) {
        #expect(a.upperBound < b.lowerBound)
      }
      #expect(space.free.last.map { $0.upperBound < space.end } ?? true)
    }
    for range in used { space.release(range) }
    #expect(space.isEmpty && space.free.isEmpty)
    #expect(space.take(40_001) == nil)
    #expect(space.take(40_000) == 0 && space.take(1) == nil)
  }
}
