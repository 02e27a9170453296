import CNibble
import Dispatch
import NibbleGenerate

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A large buffer in huge pages: reading it tells how fast this machine reads memory, and leaves
/// nothing else in its caches.
final class ReadBuffer {
  /// Bytes that are read between two measurements: more than the caches of current machines.
  static let standardByteCount = 512 << 20

  let byteCount: Int
  private let memory: UnsafeMutableRawPointer
  /// Keeps the compiler from dropping the reads.
  private var sum: UInt64 = 0

  /// Fills a buffer with random words, since pages of zeros may all be one page.
  ///
  /// - Parameter byteCount: A multiple of 2 MiB.
  /// - Throws: ``EvaluationError/memoryUnknown(reason:)``.
  init(byteCount: Int = standardByteCount) throws(EvaluationError) {
    self.byteCount = byteCount
    var memory: UnsafeMutableRawPointer?
    guard posix_memalign(&memory, 2 << 20, byteCount) == 0, let memory else {
      throw .memoryUnknown(reason: "the system refused \(byteCount) bytes")
    }
    self.memory = memory
    #if os(Linux)
    // Only a hint; plain pages are read a little slower.
    madvise(memory, byteCount, MADV_HUGEPAGE)
    #endif
    var generator = SplitMix64(seed: 7)
    let words = memory.assumingMemoryBound(to: UInt64.self)
    for index in 0..<byteCount / 8 { words[index] = generator.next() }
  }

  deinit { free(memory) }

  /// Reads all of it once.
  ///
  /// - Parameter threads: Threads that read a part each.
  /// - Returns: Bytes per second.
  func read(threads: Int) -> Double {
    let count = max(1, threads)
    let slice = (byteCount / count + 511) & ~511
    let sums = UnsafeMutablePointer<UInt64>.allocate(capacity: count)
    defer { sums.deallocate() }
    // Each thread reads its slice and writes its sum.
    nonisolated(unsafe) let target = sums
    nonisolated(unsafe) let source = UnsafeRawPointer(memory)
    let total = byteCount
    let start = ContinuousClock.now
    DispatchQueue.concurrentPerform(iterations: count) { thread in
      let first = min(total, thread * slice)
      target[thread] = nibble_read_sum(source + first, min(slice, total - first))
    }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    for thread in 0..<count { sum &+= sums[thread] }
    return Double(byteCount) / seconds
  }
}
