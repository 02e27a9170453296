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
  let bias: UnsafeMutablePointer<Float>
  let positions: UnsafeMutablePointer<Int64>
  let combined: CombinedRows
  private(set) var decoded: UnsafeMutableRawPointer?
  private var decodedBytes = 0
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
  }

  deinit {
    memory.deallocate()
    decoded?.deallocate()
  }

  /// Memory for a page that a host's codec is decoded to.
  func decodedPage(bytes: Int) -> UnsafeMutableRawPointer {
    if let decoded, decodedBytes >= bytes { return decoded }
    decoded?.deallocate()
    let fresh = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    decoded = fresh
    decodedBytes = bytes
    return fresh
  }
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
    // Sequences that attend at the same time each have their own; few are kept for later.
    free.withLock { if $0.count < Self.mostIdle { $0.append(scratch) } }
  }
}

/// Scratch of one call: one part for each worker, and the results of split work.
///
/// `@unchecked`: used by one call at a time.
final class CallScratch: @unchecked Sendable {
  let workers: [WorkerScratch]
  private let pool: PagePool
  private var chargedBytes: Int
  private var results: UnsafeMutablePointer<Float>?
  private var resultCount = 0

  init(workers: Int, headDim: Int, pool: PagePool) throws(KVError) {
    let bytes = workers * AttentionScratch.workerBytes(headDim: headDim)
    try pool.charge(bytes: bytes)
    self.pool = pool
    chargedBytes = bytes
    self.workers = (0..<workers).map { _ in WorkerScratch(headDim: headDim) }
  }

  deinit {
    results?.deallocate()
    pool.discharge(bytes: chargedBytes)
  }

  /// Memory for results; grows as contexts grow.
  func results(count: Int) throws(KVError) -> UnsafeMutablePointer<Float> {
    if let results, resultCount >= count { return results }
    let growth = (count - resultCount) * MemoryLayout<Float>.stride
    try pool.charge(bytes: growth)
    chargedBytes += growth
    results?.deallocate()
    let fresh = UnsafeMutablePointer<Float>.allocate(capacity: count)
    results = fresh
    resultCount = count
    return fresh
  }
}
