import Foundation
import NibbleFiles
import Synchronization
import Testing

@testable import NibbleKV

/// What is saved comes back, and goes on as if nothing had happened.
@Suite struct SessionTests {
  private let folder: TemporaryFolder
  private var path: String { folder.file("a.session") }

  init() throws { folder = try TemporaryFolder() }

  @Test(arguments: SessionCase.all, [false, true])
  func aRestoredSequenceGoesOnBitForBit(test: SessionCase, compresses: Bool) throws {
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<123, of: test.rows)
    try sequence.record(tokens: Array(0..<123).span)
    try sequence.append(123..<test.tokens, of: test.rows)
    try sequence.save(to: path, options: SaveOptions(compressesPages: compresses))
    let restored = try test.cache().restoreSequence(from: path)
    #expect(restored.tokens == Array(0..<123))
    try expectEqual(restored, sequence, goingOnWith: test.rows)
    #expect(folder.names == ["a.session"])
  }

  @Test(arguments: [0, 1, 4, 5, 20])
  func shortSequences(tokens: Int) throws {
    let test = SessionCase.all[0]
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<tokens, of: test.rows)
    try sequence.save(to: path)
    let restored = try test.cache().restoreSequence(from: path)
    try expectEqual(restored, sequence, goingOnWith: test.rows)
  }

  @Test func layersMayHaveDifferentLengths() throws {
    let test = SessionCase.all[1]
    let sequence = try test.cache().makeSequence()
    try test.rows.append(0..<100, to: sequence, layer: 0)
    try sequence.save(to: path)
    let restored = try test.cache().restoreSequence(from: path)
    #expect(restored.tokenCount == 0)
    try test.rows.append(0..<100, to: restored, layer: 1)
    try test.rows.append(0..<100, to: sequence, layer: 1)
    try expectEqual(restored, sequence, goingOnWith: test.rows)
  }

  /// Pages that are sealed are written once.
  @Test(arguments: SessionCase.all)
  func laterSavesAppendWhatIsNew(test: SessionCase) throws {
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<200, of: test.rows)
    try sequence.save(to: path)
    let before = try bytes(of: path)
    let inode = FileStatus(path: path)
    try sequence.append(200..<220, of: test.rows)
    try sequence.save(to: path)
    let after = try bytes(of: path)
    #expect(FileStatus(path: path)?.isSame(as: try #require(inode)) == true)
    // All but the superblocks is as it was.
    #expect(after[8192..<before.count] == before[8192...])
    #expect(after.count - before.count < before.count - 8192)
    #expect(try SessionFile(path: path).superblock.generation == 2)
    try expectEqual(
      try test.cache().restoreSequence(from: path),
      sequence,
      goingOnWith: test.rows
    )
  }

  /// Saved, cut, grown again, by the sequence and by one that was restored: the file always has the last state.
  @Test(arguments: SessionCase.all)
  func manySaves(test: SessionCase) throws {
    var random = SeededRandom(5)
    let twin = try test.cache().makeSequence()
    var sequence = try test.cache().makeSequence()
    for _ in 0..<25 {
      let count = twin.tokenCount
      let least = count == 0 ? 0 : max(0, count - 16)
      if Int.random(in: 0..<3, using: &random) == 0, test.windows == nil || count > 140 {
        let cut = Int.random(in: least...count, using: &random)
        try twin.truncate(to: cut)
        try sequence.truncate(to: cut)
      } else {
        let more = min(test.rows.count, count + Int.random(in: 0..<40, using: &random))
        try twin.append(count..<more, of: test.rows, by: 9)
        try sequence.append(count..<more, of: test.rows, by: 9)
      }
      let compresses = Bool.random(using: &random)
      try sequence.save(to: path, options: SaveOptions(compressesPages: compresses))
      let restored = try test.cache().restoreSequence(from: path)
      try expectEqual(restored, twin)
      #expect(try SessionFile(path: path).faults().isEmpty)
      if Bool.random(using: &random) { sequence = restored }
    }
    try expectEqual(sequence, twin, goingOnWith: test.rows)
  }

  @Test func halfOfAFileIsInUse() throws {
    let test = SessionCase(policy: "float16@recent=64")
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<64, of: test.rows)
    var sizes: [Int] = []
    var generations: [UInt64] = []
    for _ in 0..<12 {
      try sequence.truncate(to: 0)
      try sequence.append(0..<64, of: test.rows)
      try sequence.save(to: path)
      let session = try SessionFile(path: path)
      sizes.append(session.status.byteCount - 8192)
      generations.append(session.superblock.generation)
      #expect(2 * session.unusedBytes <= sizes[sizes.count - 1])
    }
    #expect(generations.filter { $0 == 1 }.count > 3)
    #expect(try #require(sizes.max()) <= 2 * (try #require(sizes.min())) + 8192)
  }

  /// Two sequences that were one do not disturb each other in one file: the last save wins.
  @Test func forksSaveToTheSameFile() throws {
    let test = SessionCase.all[0]
    let one = try test.cache().makeSequence()
    try one.append(0..<200, of: test.rows)
    try one.save(to: path)
    let other = one.fork()
    try other.append(200..<230, of: test.rows)
    try one.append(250..<260, of: test.rows)
    for _ in 0..<2 {
      try other.save(to: path)
      try expectEqual(try test.cache().restoreSequence(from: path), other)
      try one.save(to: path)
      try expectEqual(try test.cache().restoreSequence(from: path), one)
    }
    try expectEqual(one, one.fork(), goingOnWith: test.rows)
  }

  @Test func savingToSeveralFiles() throws {
    let test = SessionCase.all[1]
    let sequence = try test.cache().makeSequence()
    for (end, name) in [(100, "a"), (150, "b"), (180, "a"), (200, "b"), (210, "b")] {
      try sequence.append(sequence.tokenCount..<end, of: test.rows)
      try sequence.save(to: folder.file(name))
      let restored = try test.cache().restoreSequence(from: folder.file(name))
      try expectEqual(restored, sequence)
    }
    #expect(try SessionFile(path: folder.file("a")).superblock.generation == 1)
    #expect(try SessionFile(path: folder.file("b")).superblock.generation == 2)
  }

  /// Pages in a spill file are saved from there, and pages of a session are not written to it.
  @Test func sessionsAndTheDiskTier() throws {
    let test = SessionCase.all[1]
    let cache = try test.cache(disk: DiskTier(folder: folder.path))
    let sequence = cache.makeSequence()
    try sequence.append(0..<200, of: test.rows)
    let twin = try test.cache().makeSequence()
    try twin.append(0..<200, of: test.rows)
    try sequence.moveToDisk()
    try sequence.save(to: path)
    try expectEqual(try test.cache().restoreSequence(from: path), twin)
    let restored = try cache.restoreSequence(from: path)
    let before = cache.statistics.diskBytes
    try restored.moveToDisk()
    #expect(cache.statistics.diskBytes == before)
    try expectEqual(restored, twin, goingOnWith: test.rows)
  }

  /// Restoring reads superblocks and index; pages come when they are used.
  @Test func pagesAreReadWhenTheyAreUsed() throws {
    let test = SessionCase.all[1]
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<600, of: test.rows)
    try sequence.save(to: path)
    let read = Counter()
    var calls = FileCalls.system
    calls.read = { descriptor, target, count, offset in
      read.add(count)
      return FileCalls.system.read(descriptor, target, count, offset)
    }
    let cache = try test.cache()
    let restored = try cache.restoreSequence(from: path, calls: calls)
    let index = try SessionFile(path: path).superblock.index.count
    #expect(read.value == index + 2 * SessionSuperblock.byteCount)
    #expect(cache.statistics.pageCount == 0)
    _ = try restored.attended(randomQueries(shape: test.shape), layer: 0)
    #expect(read.value > index + 10_000)
    try expectEqual(restored, sequence)
  }

  @Test func aFileMayGoWhileItsPagesAreNeeded() throws {
    let test = SessionCase.all[0]
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<200, of: test.rows)
    try sequence.save(to: path)
    let restored = try test.cache().restoreSequence(from: path)
    try FileManager.default.removeItem(atPath: path)
    try expectEqual(restored, sequence)
    try restored.save(to: path)
    try expectEqual(try test.cache().restoreSequence(from: path), sequence)
  }

  @Test func anotherFileInItsPlaceIsReplacedAsAWhole() throws {
    let test = SessionCase.all[0]
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<200, of: test.rows)
    try sequence.save(to: path)
    let copy = try bytes(of: path)
    try FileManager.default.removeItem(atPath: path)
    try write(copy, to: path)
    try sequence.append(200..<210, of: test.rows)
    try sequence.save(to: path)
    #expect(try SessionFile(path: path).superblock.generation == 1)
    try write([1, 2, 3], to: path)
    try sequence.save(to: path)
    try expectEqual(try test.cache().restoreSequence(from: path), sequence)
  }
}

/// A sum that many may add to.
final class Counter: Sendable {
  private let sum = Mutex(0)
  var value: Int { sum.withLock { $0 } }
  func add(_ count: Int) { sum.withLock { $0 += count } }
}
