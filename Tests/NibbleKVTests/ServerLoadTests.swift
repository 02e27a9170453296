import Foundation
import NibbleEval
import NibbleKV
import Synchronization
import Testing

/// What a server does to a cache: many sequences at once, forks, truncations, steps that are given up halfway, and a budget of
/// a quarter of what all of it would need.
///
/// `NIBBLE_LOAD_SECONDS` says for how long; a few seconds without it.
@Suite(.serialized) struct ServerLoadTests {
  @Test(arguments: ["rotated:4@mean=removed", "k=int8+v=trellis:3", "float16"])
  func everySequenceIsWhatItsHistoryMakesIt(policy: String) async throws {
    ResidentMemory.resetPeak()
    let before = try ResidentMemory.current()
    let seconds = ProcessInfo.processInfo.environment["NIBBLE_LOAD_SECONDS"].flatMap(Double.init)
    let load = try ServerLoad(policy: Policy(argument: policy))
    let end = ContinuousClock.now + .seconds((seconds ?? 6) / 3)
    await withTaskGroup(of: Void.self) { group in
      for worker in 0..<ServerLoad.workers {
        group.addTask { load.work(seed: UInt64(worker), until: end) }
      }
    }
    // Of the whole process: what else is tested at the same time counts, and so do the load's own rows.
    let resident = try ResidentMemory.peak() - before
    let limit = try #require(load.cache.budget.byteLimit)
    let figures = load.figures.withLock { $0 }
    #expect(figures.mostHeldBytes <= limit)
    #expect(figures.strangeErrors == [])
    #expect(load.cache.statistics.diskBytes > 0)
    #expect(try load.demand() > 3 * limit)
    try load.compareWithLoneSequences()
    print(
      "server load \(policy): \(figures.steps) steps, \(figures.refusals) refused, "
        + "\(figures.givenUp) given up, \(figures.mostHeldBytes) of \(limit) bytes held at most, "
        + "\(resident) resident beyond what the process had, "
        + "\(load.cache.statistics.diskBytes) on disk"
    )
  }
}

/// Sequences with their histories, and the workers that use them.
private final class ServerLoad: Sendable {
  static let workers = 4
  private static let leastSteps = 800
  private static let sequences = 32
  private static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)

  let cache: KVCache
  let figures = Mutex(Figures())
  private let policy: Policy
  private let slots: [Slot]

  struct Figures {
    var steps = 0
    var refusals = 0
    var givenUp = 0
    var mostHeldBytes = 0
    var strangeErrors: [String] = []
  }

  private enum Step {
    case append(seed: UInt64, count: Int)
    case truncate(to: Int)
  }

  private struct Content {
    var sequence: KVSequence
    var history: [Step] = []
    /// Whether the last append was a whole one.
    ///
    /// One that was given up or refused may have sealed what the next one would have; a cut into it before that shows.
    var isSettled = true
  }

  private final class Slot: Sendable {
    let content: Mutex<Content>

    init(_ sequence: KVSequence) { content = Mutex(Content(sequence: sequence)) }
  }

  init(policy: Policy) throws {
    self.policy = policy
    let scratch = try KVCache(model: Self.shape, policy: policy, threads: 2).statistics.heldBytes
    let cache = try KVCache(
      model: Self.shape,
      policy: policy,
      budget: .bytes(2 * scratch + 5 * (2 << 20)),
      disk: DiskTier(folder: NSTemporaryDirectory()),
      threads: 2
    )
    self.cache = cache
    slots = (0..<Self.sequences).map { _ in Slot(cache.makeSequence()) }
  }

  func work(seed: UInt64, until end: ContinuousClock.Instant) {
    var random = SeededRandom(seed)
    // A busy machine may have spent the time before the first step.
    while ContinuousClock.now < end || figures.withLock({ $0.steps < Self.leastSteps }) {
      let index = Int.random(in: 0..<Self.sequences, using: &random)
      let other = Int.random(in: 0..<Self.sequences, using: &random)
      let choice = Int.random(in: 0..<20, using: &random)
      let seed = random.next()
      _ = slots[index].content.withLockIfAvailable { content in
        do throws(KVError) {
          try use(&content, choice: choice, other: other, seed: seed)
        } catch {
          note(error)
        }
      }
      let held = cache.statistics.heldBytes
      figures.withLock {
        $0.steps += 1
        $0.mostHeldBytes = max($0.mostHeldBytes, held)
      }
    }
  }

  private func use(
    _ content: inout Content,
    choice: Int,
    other: Int,
    seed: UInt64
  ) throws(KVError) {
    var random = SeededRandom(seed)
    let count = content.sequence.tokenCount
    switch choice {
    case 0:
      // A fork takes another's place.
      var fork = content
      fork.sequence = content.sequence.fork()
      _ = slots[other].content.withLockIfAvailable { [fork] in $0 = fork }
    case 1 where count > 0 && content.isSettled:
      let target = Int.random(in: count / 2...count, using: &random)
      try content.sequence.truncate(to: target)
      content.history.append(.truncate(to: target))
    case 2 where count > 12_000:
      content = Content(sequence: cache.makeSequence())
    case 3...8:
      if count > 0 { _ = try attend(content.sequence) }
    default:
      let step = choice < 12 ? 1 : Int.random(in: 1...1_000, using: &random)
      // Given up after the first layer.
      let isGivenUp = choice == 9 && Bool.random(using: &random)
      try append(seed: seed, count: step, to: &content, isGivenUp: isGivenUp)
    }
  }

  private func append(
    seed: UInt64,
    count: Int,
    to content: inout Content,
    isGivenUp: Bool
  ) throws(KVError) {
    let before = content.sequence.tokenCount
    content.isSettled = false
    do throws(KVError) {
      try Self.append(seed: seed, count: count, to: content.sequence, layers: isGivenUp ? 1 : 2)
    } catch {
      try content.sequence.truncate(to: before)
      throw error
    }
    if isGivenUp {
      try content.sequence.truncate(to: before)
      figures.withLock { $0.givenUp += 1 }
    } else {
      content.history.append(.append(seed: seed, count: count))
      content.isSettled = true
    }
  }

  private static func append(
    seed: UInt64,
    count: Int,
    to sequence: KVSequence,
    layers: Int = shape.layers
  ) throws(KVError) {
    for layer in 0..<layers {
      var random = SeededRandom(seed &+ UInt64(layer) << 40)
      let row = shape.kvHeads * shape.headDim
      let values = (0..<2 * count * row).map { _ in Float(random.next() >> 40) * 0x1p-23 - 1 }
      let keys = Array(values[..<(count * row)])
      let rest = Array(values[(count * row)...])
      try sequence.append(keys: keys.span, values: rest.span, layer: layer)
    }
  }

  private func attend(_ sequence: KVSequence) throws(KVError) -> [Float] {
    let queries = randomQueries(1, shape: Self.shape)
    return try sequence.attended(queries, layer: 0) + sequence.attended(queries, layer: 1)
  }

  private func note(_ error: KVError) {
    figures.withLock {
      if case .budgetExceeded = error {
        $0.refusals += 1
      } else {
        $0.strangeErrors.append("\(error)")
      }
    }
  }

  /// Bytes that the sequences would take in memory, shared pages once for each.
  func demand() throws -> Int {
    slots.reduce(0) { $0 + $1.content.withLock { $0.sequence.statistics.totalBytes } }
  }

  /// Replays each history in a cache without a budget: attention must be the same bit for bit.
  func compareWithLoneSequences() throws {
    for slot in slots {
      let content = slot.content.withLock { $0 }
      let lone = try KVCache(model: Self.shape, policy: policy, threads: 1).makeSequence()
      for step in content.history {
        switch step {
        case .append(let seed, let count): try Self.append(seed: seed, count: count, to: lone)
        case .truncate(let target): try lone.truncate(to: target)
        }
      }
      #expect(lone.tokenCount == content.sequence.tokenCount)
      // Both seal now what is due.
      for each in [lone, content.sequence] { try Self.append(seed: 1, count: 1, to: each) }
      let isEqual = try attend(content.sequence) == attend(lone)
      #expect(isEqual)
    }
  }
}
