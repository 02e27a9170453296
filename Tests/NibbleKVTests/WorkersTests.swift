import CTestSupport
import NibbleKV
import Synchronization
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Threads that work together: every item once, and no call ever waits for another's.
@Suite(.timeLimit(.minutes(5)))
struct WorkersTests {
  @Test(arguments: [1, 2, 5], [0, 1, 2, 7, 1000])
  func everyItemRunsOnce(threads: Int, items: Int) {
    let workers = Workers(count: threads)
    for _ in 0..<20 {
      let runs = Counters(items)
      let busy = Counters(threads)
      workers.run(items: items) { item, worker in
        #expect(busy.add(1, to: worker) == 1, "a worker does one item at a time")
        runs.add(1, to: item)
        busy.add(-1, to: worker)
      }
      #expect(runs.values.allSatisfy { $0 == 1 })
    }
  }

  @Test(arguments: [2, 4])
  func allThreadsWork(threads: Int) {
    let workers = Workers(count: threads)
    let meeting = Meeting(threads)
    let met = Counters(threads)
    workers.run(items: threads) { _, worker in
      meeting.arrive()
      met.add(1, to: worker)
    }
    #expect(met.values == Array(repeating: 1, count: threads))
  }

  /// A caller whose helpers are all held up elsewhere does its own work.
  @Test func callsDoNotWaitForEachOther() {
    let shared = Workers(count: 2)
    let others = Workers(count: 2)
    let meeting = Meeting(2)
    let isOver = Atomic(false)
    others.run(items: 2) { call, _ in
      if call == 0 {
        shared.run(items: 2) { _, _ in
          meeting.arrive()
          while !isOver.load(ordering: .acquiring) { sched_yield() }
        }
      } else {
        // Both of `shared`'s threads are at the items above.
        meeting.waitForAll()
        let runs = Counters(100)
        shared.run(items: 100) { item, _ in runs.add(1, to: item) }
        #expect(runs.values.allSatisfy { $0 == 1 })
        isOver.store(true, ordering: .releasing)
      }
    }
  }

  @Test(arguments: [2, 3, 6])
  func itemsRunItemsOfTheirOwn(threads: Int) {
    let workers = Workers(count: threads)
    let runs = Counters(1)
    workers.run(items: 7) { _, _ in
      workers.run(items: 6) { _, _ in
        workers.run(items: 5) { _, _ in runs.add(1, to: 0) }
      }
    }
    #expect(runs.values == [210])
  }

  /// More calls at once than can have helpers.
  @Test func manyCallers() {
    let callers = 40
    let shared = Workers(count: 3)
    let outer = Workers(count: callers)
    let meeting = Meeting(callers)
    outer.run(items: callers) { caller, _ in
      meeting.arrive()
      for _ in 0..<30 {
        let runs = Counters(9)
        shared.run(items: 9) { item, _ in runs.add(caller, to: item) }
        #expect(runs.values == Array(repeating: caller, count: 9))
      }
    }
  }

  @Test func mapKeepsOrderAndTheFirstError() throws {
    struct Failure: Error, Equatable { let item: Int }
    let workers = Workers(count: 3)
    #expect(try workers.map(items: 100) { $0 * $0 } == (0..<100).map { $0 * $0 })
    let error = #expect(throws: Failure.self) {
      try workers.map(items: 100) { item in
        if item >= 30 { throw Failure(item: item) }
      }
    }
    #expect(error == Failure(item: 30))
  }

  /// The last copy ends the threads, and waits for their end.
  @Test func threadsEnd() {
    let ended = Counters(1)
    var key = pthread_key_t()
    pthread_key_create(&key) { value in
      #if canImport(Darwin)
      let value: UnsafeMutableRawPointer? = value
      #endif
      guard let value else { return }
      Unmanaged<Counters>.fromOpaque(value).takeUnretainedValue().add(1, to: 0)
    }
    defer { pthread_key_delete(key) }
    let threads = 4
    do {
      let workers = Workers(count: threads)
      let copy = workers
      let meeting = Meeting(threads)
      copy.run(items: threads) { _, worker in
        meeting.arrive()
        if worker > 0 { pthread_setspecific(key, Unmanaged.passUnretained(ended).toOpaque()) }
      }
      #expect(ended.values == [0])
    }
    #expect(ended.values == [threads - 1])
  }

  /// Threads that sleep do not keep a process alive.
  @Test func aProcessEndsWhileThreadsSleep() async {
    await #expect(processExitsWith: .success) {
      let workers = Workers(count: 3)
      let meeting = Meeting(3)
      workers.run(items: 3) { _, _ in meeting.arrive() }
      withExtendedLifetime(workers) { exit(0) }
    }
  }

  /// The child of a fork has no threads but the one that forked; it works alone.
  @Test func aForkedProcessGoesOn() throws {
    let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 32)
    let filled = try Filled(shape: shape, policy: .balanced, tokens: 300, threads: 3)
    let queries = randomQueries(shape: shape)
    let child = Child(filled: filled, queries: queries, expected: try filled.attend(queries))
    let succeeded = test_in_fork(
      { context in
        guard let context else { return false }
        return Unmanaged<Child>.fromOpaque(context).takeUnretainedValue().isAsExpected
      },
      Unmanaged.passUnretained(child).toOpaque(),
      60
    )
    #expect(succeeded)
    withExtendedLifetime(child) {}
  }

  private final class Child {
    private let filled: Filled
    private let queries: [Float]
    private let expected: [Float]

    init(filled: Filled, queries: [Float], expected: [Float]) {
      self.filled = filled
      self.queries = queries
      self.expected = expected
    }

    var isAsExpected: Bool { (try? filled.attend(queries)) == expected }
  }
}

/// Where a number of threads wait until all of them are there.
final class Meeting: Sendable {
  private let missing: Atomic<Int>

  init(_ count: Int) { missing = Atomic(count) }

  func arrive() {
    missing.wrappingSubtract(1, ordering: .acquiringAndReleasing)
    waitForAll()
  }

  func waitForAll() {
    while missing.load(ordering: .acquiring) > 0 { sched_yield() }
  }
}

/// Sums that several threads add to.
private final class Counters: Sendable {
  private let sums: Mutex<[Int]>

  init(_ count: Int) { sums = Mutex(Array(repeating: 0, count: count)) }

  var values: [Int] { sums.withLock { $0 } }

  @discardableResult
  func add(_ value: Int, to index: Int) -> Int {
    sums.withLock { sums in
      sums[index] += value
      return sums[index]
    }
  }
}
