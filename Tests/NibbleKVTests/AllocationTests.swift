import CTestSupport
import Testing

@testable import NibbleKV

/// Decoding takes no memory from the system, but for new pages and their sealing.
///
/// Without optimisation, the compiler itself takes memory for closures.
#if !DEBUG
@Suite(.serialized, .enabled(if: test_can_count_allocations()))
struct AllocationTests {
  static let shape = ModelShape(layers: 3, queryHeads: 4, kvHeads: 2, headDim: 64)

  @Test(
    arguments: [
      "float16", "int8", "linear:4", "rotated:4@mean=removed", "trellis:3@scales=balanced",
      "bcq:3@outliers=1",
    ],
    [1, 3]
  )
  func decodingTakesNoMemory(policy: String, threads: Int) throws {
    // Long enough for the pages to be split into segments.
    let filled = try Filled(
      shape: Self.shape,
      policy: Policy(argument: policy + "@page_tokens=16@recent=20"),
      tokens: 2_100,
      chunk: 700,
      threads: threads
    )
    try expectNoAllocations(filled)
  }

  /// Heads of other widths, among them one whose rows are too long for the stack.
  @Test(arguments: [72, 320])
  func calibratedDecodingTakesNoMemory(headDim: Int) throws {
    let shape = ModelShape(layers: 1, queryHeads: 2, kvHeads: 1, headDim: headDim)
    let filled = try Filled(
      shape: shape,
      policy: Policy(argument: "k=trellis:3+v=rotated:4@rotation=aligned@recent=20"),
      tokens: 200,
      threads: 2,
      catalogue: AlignedTests.catalogue(of: shape)
    )
    try expectNoAllocations(filled)
  }

  private func expectNoAllocations(_ filled: Filled) throws {
    watchAllThreads(of: filled.cache, true)
    defer { watchAllThreads(of: filled.cache, false) }
    var decoder = Decoder(filled)
    try decoder.step()
    decoder.inAttend = 0
    decoder.inQuietAppends = 0
    for _ in 0..<200 { try decoder.step() }
    #expect(decoder.inAttend == 0)
    #expect(decoder.inQuietAppends == 0)
    #expect(decoder.quietAppends > decoder.steps * 2 / 3, "few steps take or seal a page")
    #expect(decoder.inOtherAppends > 0, "what a new page takes is counted")
  }

  @Test func aBatchTakesNoMemory() throws {
    let filled = try Filled(shape: Self.shape, policy: .balanced, tokens: 9_000, threads: 3)
    let short = filled.cache.makeSequence()
    try TokenRows(77, shape: Self.shape, seed: 3).append(0..<77, to: short)
    watchAllThreads(of: filled.cache, true)
    defer { watchAllThreads(of: filled.cache, false) }
    let sequences = [filled.sequence, short, filled.sequence]
    let queries = randomQueries(3, shape: Self.shape)
    var output = queries
    var span = output.mutableSpan
    var counts: [Int] = [0, 0, 0]
    for round in counts.indices {
      let before = test_allocations()
      try filled.cache.attend(sequences, queries: queries.span, layer: 0, into: &span)
      counts[round] = test_allocations() - before
    }
    #expect(counts[0] > 0, "room for the results of two long sequences")
    #expect(counts[1...] == [0, 0])
  }

  /// What helpers allocate is counted too.
  @Test func allThreadsAreCounted() throws {
    let cache = try KVCache(model: Self.shape, policy: .balanced, threads: 3)
    watchAllThreads(of: cache, true)
    defer { watchAllThreads(of: cache, false) }
    let meeting = Meeting(3)
    let before = test_allocations()
    cache.workers.run(items: 3) { _, _ in
      meeting.arrive()
      UnsafeMutableRawPointer.allocate(byteCount: 100, alignment: 16).deallocate()
    }
    #expect(test_allocations() >= before + 3)
  }

  private func watchAllThreads(of cache: KVCache, _ isWatched: Bool) {
    let meeting = Meeting(cache.threadCount)
    cache.workers.run(items: cache.threadCount) { _, _ in
      meeting.arrive()
      test_watch_thread(isWatched)
    }
  }
}

/// Appends and attends token by token, and counts allocations.
private struct Decoder {
  var inAttend = 0
  var inQuietAppends = 0
  var inOtherAppends = 0
  var quietAppends = 0
  var steps = 0
  private let sequence: KVSequence
  private let row: [Float]
  private let queries: [Float]
  private var output: [Float]

  init(_ filled: Filled) {
    sequence = filled.sequence
    let shape = sequence.shape
    var random = SeededRandom(5)
    row = random.normals(shape.kvHeads * shape.headDim)
    queries = randomQueries(shape: shape)
    output = queries
  }

  /// One token through all layers.
  mutating func step() throws {
    for layer in 0..<sequence.shape.layers {
      steps += 1
      let pages = sequence.snapshot(layer: layer).pageCounts
      let before = test_allocations()
      try sequence.append(keys: row.span, values: row.span, layer: layer)
      let appended = test_allocations()
      let isQuiet = sequence.snapshot(layer: layer).pageCounts == pages
      if isQuiet {
        quietAppends += 1
        inQuietAppends += appended - before
      } else {
        inOtherAppends += appended - before
      }
      inAttend += try attend(layer: layer)
    }
  }

  private mutating func attend(layer: Int) throws -> Int {
    let before = test_allocations()
    let (sequence, queries) = (sequence, queries)
    var span = output.mutableSpan
    try sequence.attend(queries: queries.span, layer: layer, into: &span)
    return test_allocations() - before
  }
}

extension LayerState {
  fileprivate var pageCounts: [Int] { [pages.count, sealedCount, ahead == nil ? 0 : 1] }
}
#endif
