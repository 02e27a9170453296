internal import CNibble
import NibblePolicy
import Synchronization

/// Working memory of one worker: the kernels' scratch, one partial result, the running combination, a decoded page.
///
/// `@unchecked`: used by one worker at a time.
final class WorkerScratch: @unchecked Sendable {
  let kernel: UnsafeMutableRawPointer
  let maximum: UnsafeMutablePointer<Float>
  let sum: UnsafeMutablePointer<Float>
  let accumulator: UnsafeMutablePointer<Float>
  let queries: UnsafeMutablePointer<Float>
  let transformedQueries: UnsafeMutablePointer<Float>
  /// The rung of the keys that ``transformedQueries`` are for.
  var transformedRung: Int?
  let bias: UnsafeMutablePointer<Float>
  let positions: UnsafeMutablePointer<Int64>
  /// Logarithms of sums of weights that are part of each row's total.
  let known: UnsafeMutablePointer<Float>
  let skip: UnsafeMutablePointer<nibble_skip>
  let combined: CombinedRows
  private var decoded = GrowingMemory()
  private var loaded = GrowingMemory()
  private let memory: UnsafeMutableRawPointer

  static let rows = AttentionScratch.rows

  init(headDim: Int) {
    let padded = (headDim + 15) & ~15
    let rows = Self.rows
    let memory = UnsafeMutableRawPointer.allocate(
      byteCount: AttentionScratch.workerBytes(headDim: headDim),
      alignment: 64
    )
    self.memory = memory
    kernel = memory
    precondition(nibble_attend_scratch_bytes() <= AttentionScratch.kernelBytes)
    var offset = AttentionScratch.kernelBytes
    func next(_ count: Int) -> UnsafeMutablePointer<Float> {
      defer { offset += count * 4 }
      return (memory + offset).bindMemory(to: Float.self, capacity: count)
    }
    accumulator = next(rows * padded)
    queries = next(rows * padded)
    transformedQueries = next(rows * padded)
    combined = CombinedRows(
      base: next(CombinedRows.floatCount(rows: rows, padded: padded)),
      rows: rows,
      padded: padded
    )
    positions = UnsafeMutableRawPointer(next(rows * 2)).bindMemory(to: Int64.self, capacity: rows)
    maximum = next(rows)
    sum = next(rows)
    bias = next(rows)
    known = next(rows)
    skip = .allocate(capacity: 1)
  }

  deinit {
    memory.deallocate()
    skip.deallocate()
    decoded.deallocate()
    loaded.deallocate()
  }

  /// Makes the partial result that of no pages.
  func resetPartial(rows: Int, padded: Int) {
    maximum.update(repeating: -.infinity, count: rows)
    sum.update(repeating: 0, count: rows)
    accumulator.update(repeating: 0, count: rows * padded)
  }

  /// Memory for a page that a host's codec is decoded to, and for the values of one strip.
  func decodedPage(
    bytes: Int,
    values: Int
  ) -> (page: UnsafeMutablePointer<UInt8>, values: UnsafeMutablePointer<Float>) {
    let start = (bytes + 63) & ~63
    let memory = decoded.reserve(start + values * MemoryLayout<Float>.stride)
    return (
      memory.assumingMemoryBound(to: UInt8.self),
      (memory + start).assumingMemoryBound(to: Float.self)
    )
  }

  /// Memory for a page that is read from a file.
  func loadedPage(bytes: Int) -> UnsafeMutablePointer<UInt8> {
    loaded.reserve(bytes).assumingMemoryBound(to: UInt8.self)
  }
}

/// Memory that is taken when it is first needed, and grows.
private struct GrowingMemory {
  private var base: UnsafeMutableRawPointer?
  private var byteCount = 0

  /// At least `wanted` bytes, on whole lines; what was there is lost if they are more than before.
  mutating func reserve(_ wanted: Int) -> UnsafeMutableRawPointer {
    if let base, wanted <= byteCount { return base }
    base?.deallocate()
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(wanted, 64), alignment: 64)
    base = memory
    byteCount = wanted
    return memory
  }

  func deallocate() { base?.deallocate() }
}

/// The softmax state of some rows over several runs, in both spaces: values in the model's space, and transformed values.
struct CombinedRows {
  let base: UnsafeMutablePointer<Float>
  let rows: Int
  let padded: Int

  static func floatCount(rows: Int, padded: Int) -> Int { rows * (2 * padded + 2) }

  var maximum: UnsafeMutablePointer<Float> { base }
  var sum: UnsafeMutablePointer<Float> { base + rows }
  func plain(_ row: Int) -> UnsafeMutablePointer<Float> { base + 2 * rows + row * 2 * padded }
  func transformed(_ row: Int) -> UnsafeMutablePointer<Float> { plain(row) + padded }

  func reset(rows count: Int) {
    for row in 0..<count {
      maximum[row] = -.infinity
      sum[row] = 0
      plain(row).update(repeating: 0, count: 2 * padded)
    }
  }
}

/// Scratch for all workers of one call, handed out and taken back, so that steady decoding takes no memory.
final class ScratchStore: Sendable {
  private let free = Mutex<[CallScratch]>([])
  private let pool: PagePool
  private let workers: Int
  private let headDim: Int
  private static let mostIdle = 4

  init(pool: PagePool, workers: Int, headDim: Int) throws(KVError) {
    self.pool = pool
    self.workers = workers
    self.headDim = headDim
    giveBack(try make())
  }

  private func make() throws(KVError) -> CallScratch {
    try CallScratch(workers: workers, headDim: headDim, pool: pool)
  }

  func take() throws(KVError) -> CallScratch {
    if let scratch = free.withLock({ $0.popLast() }) { return scratch }
    return try make()
  }

  func giveBack(_ scratch: CallScratch) {
    scratch.clear()
    // Sequences that attend at the same time each have their own; few are kept for later.
    free.withLock { if $0.count < Self.mostIdle { $0.append(scratch) } }
  }
}

/// Scratch of one call: its shares, one part for each worker, and the results of split work.
///
/// `@unchecked`: used by one call at a time.
final class CallScratch: @unchecked Sendable {
  let workers: [WorkerScratch]
  let failure = FirstFailure()
  /// The call's sequences; empty between calls.
  var shares: [Share] = []
  var itemCount = 0
  /// Floats that the results of split shares need.
  var resultCount = 0
  /// Blocks of split shares.
  var blockCount = 0
  private(set) var results: UnsafeMutablePointer<Float>
  /// By block: segments that are still to be done.
  private(set) var segmentsLeft: UnsafeMutablePointer<Atomic<Int>>
  private var resultCapacity = 0
  private var blockCapacity = 0
  private let pool: PagePool
  private var chargedBytes: Int

  init(workers: Int, headDim: Int, pool: PagePool) throws(KVError) {
    let bytes = workers * AttentionScratch.workerBytes(headDim: headDim)
    try pool.charge(bytes: bytes)
    self.pool = pool
    chargedBytes = bytes
    results = .allocate(capacity: 0)
    segmentsLeft = .allocate(capacity: 0)
    self.workers = (0..<workers).map { _ in WorkerScratch(headDim: headDim) }
  }

  deinit {
    results.deallocate()
    segmentsLeft.deallocate()
    pool.discharge(bytes: chargedBytes)
  }

  /// Lets go of the sequences, and keeps the memory.
  func clear() {
    shares.removeAll(keepingCapacity: true)
    itemCount = 0
    resultCount = 0
    blockCount = 0
  }

  /// Memory for the results of the shares; grows with what is split, and is kept.
  func reserveResults() throws(KVError) {
    if resultCapacity < resultCount {
      let growth = (resultCount - resultCapacity) * MemoryLayout<Float>.stride
      try pool.charge(bytes: growth)
      chargedBytes += growth
      results.deallocate()
      results = .allocate(capacity: resultCount)
      resultCapacity = resultCount
    }
    if blockCapacity < blockCount {
      // Atomics of words need no deinitialization.
      segmentsLeft.deallocate()
      segmentsLeft = .allocate(capacity: blockCount)
      for block in 0..<blockCount { (segmentsLeft + block).initialize(to: Atomic(0)) }
      blockCapacity = blockCount
    }
  }
}
