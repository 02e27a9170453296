import Foundation
import NibbleFiles
import Synchronization
import Testing

@testable import NibbleKV

/// Failures of the disk tier's file system.
extension DiskTests {
  @Test func aFolderThatIsNone() throws {
    let missing = DiskTier(folder: "/nowhere/at/all")
    let error = #expect(throws: KVError.self) {
      try KVCache(model: Self.shape, policy: .balanced, disk: missing)
    }
    guard case .file(.unwritable(let path, _)) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(path.hasPrefix("/nowhere/at/all"))
    let none = try KVCache(model: Self.shape, policy: .balanced).makeSequence()
    #expect(throws: KVError.self) { try none.moveToDisk() }
  }

  @Test func aFullDiskRefusesAsTheBudgetDoes() throws {
    let faults = Faults()
    let cache = try Self.cache(Policy(argument: "linear:4"), slabs: 3, calls: faults.calls)
    let rows = TokenRows(20_000, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    // Attention takes its working memory while there is some.
    try Self.fill(sequence, TokenRows(9_000, shape: Self.shape, seed: 2))
    _ = try Self.attended(sequence)
    faults.fail(.write, with: ENOSPC)
    let error = #expect(throws: KVError.self) { try Self.fill(sequence, rows) }
    guard case .budgetExceeded = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(cache.statistics.diskBytes == 0)
    let direct = #expect(throws: KVError.self) { try sequence.moveToDisk() }
    guard case .file(.unwritable(_, let reason)) = direct else {
      Issue.record("\(String(describing: direct))")
      return
    }
    #expect(reason.contains("space"))
    // All that was there is there, and goes on once the disk has room.
    let count = 4 + (sequence.tokenCount - 2_000) / 64 * 64
    #expect(count > 4)
    try sequence.truncate(to: count)
    let output = try Self.attended(sequence)
    faults.fail(.write, with: nil)
    try sequence.moveToDisk()
    #expect(try Self.attended(sequence) == output)
    #expect(sequence.tokenCount == count)
  }

  @Test func theDisksLimit() throws {
    let cache = try Self.cache(
      Policy(argument: "linear:4"),
      slabs: nil,
      diskLimit: .bytes(64 * 4096)
    )
    let sequence = cache.makeSequence()
    try Self.fill(sequence, TokenRows(5_000, shape: Self.shape, seed: 1))
    let output = try Self.attended(sequence)
    let error = #expect(throws: KVError.self) { try sequence.moveToDisk() }
    guard case .diskBudgetExceeded(_, let held, limitBytes: 64 * 4096) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(held <= 64 * 4096 && cache.statistics.diskBytes == held)
    #expect(try Self.attended(sequence) == output)
  }

  @Test func aFileThatCannotBeRead() throws {
    let faults = Faults()
    let cache = try Self.cache(Policy(argument: "linear:4"), slabs: nil, calls: faults.calls)
    let sequence = cache.makeSequence()
    let rows = TokenRows(1_000, shape: Self.shape, seed: 1)
    try Self.fill(sequence, rows)
    let output = try Self.attended(sequence)
    try sequence.moveToDisk()
    faults.fail(.read, with: EIO)
    let statistics = sequence.statistics
    for _ in 0..<2 {
      let error = #expect(throws: KVError.self) { try Self.attended(sequence) }
      guard case .file(.unreadable) = error else {
        Issue.record("\(String(describing: error))")
        return
      }
      #expect(throws: KVError.self) { try rows.append(0..<1, to: sequence) }
      #expect(throws: KVError.self) { try sequence.truncate(to: 100) }
      #expect(throws: KVError.self) { try sequence.decodedRows(layer: 0) }
      #expect(sequence.statistics == statistics)
    }
    faults.fail(.read, with: nil)
    faults.mostBytes.store(1_000, ordering: .relaxed)
    #expect(try Self.attended(sequence) == output)
  }

  @Test(arguments: [EACCES, EROFS])
  func aFolderThatMayNotBeWrittenTo(reason: Int32) throws {
    let faults = Faults()
    faults.fail(.open, with: reason)
    let error = #expect(throws: KVError.self) {
      try Self.cache(.balanced, slabs: nil, calls: faults.calls)
    }
    guard case .file(.unwritable(let path, text(reason))) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(path.hasPrefix(NSTemporaryDirectory()))
  }

  /// Signals between calls, and disks that take little at a time.
  @Test func interruptedAndShortCalls() throws {
    let faults = Faults()
    faults.isInterrupted.store(true, ordering: .relaxed)
    faults.mostBytes.store(777, ordering: .relaxed)
    let cache = try Self.cache(
      Policy(argument: "k=rotated:4+v=float16"),
      slabs: nil,
      calls: faults.calls
    )
    let sequence = cache.makeSequence()
    try Self.fill(sequence, TokenRows(500, shape: Self.shape, seed: 1))
    let output = try Self.attended(sequence)
    try sequence.moveToDisk()
    #expect(sequence.statistics.storedPages > 0)
    #expect(try Self.attended(sequence) == output)
  }

  /// Nobody can get at the file, but a disk that turns out to be full loses what was written to it.
  @Test(arguments: [false, true])
  func aFileThatLosesItsBytes(isCutOff: Bool) throws {
    let faults = Faults()
    let cache = try Self.cache(Policy(argument: "linear:4"), slabs: nil, calls: faults.calls)
    let rows = TokenRows(1_000, shape: Self.shape, seed: 1)
    let sequence = cache.makeSequence()
    let other = cache.makeSequence()
    for each in [sequence, other] { try Self.fill(each, rows) }
    let output = try Self.attended(other)
    try sequence.moveToDisk()
    let file = faults.opened.load(ordering: .relaxed)
    if isCutOff {
      #expect(ftruncate(file, 5_000) == 0)
    } else {
      let zeros = [UInt8](repeating: 0, count: 5_000)
      #expect(pwrite(file, zeros, zeros.count, 10_000) == zeros.count)
    }
    let statistics = sequence.statistics
    for _ in 0..<2 {
      let error = #expect(throws: KVError.self) { try Self.attended(sequence) }
      switch error {
      case .file(.truncated) where isCutOff, .file(.damaged) where !isCutOff: break
      default: Issue.record("\(String(describing: error))")
      }
      #expect(sequence.statistics == statistics)
    }
    // Whoever has his pages in memory knows nothing of it.
    #expect(try Self.attended(other) == output)
    try rows.append(0..<100, to: other)
  }
}
