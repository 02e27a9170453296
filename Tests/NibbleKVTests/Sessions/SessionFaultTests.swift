import Foundation
import NibbleFiles
import Synchronization
import Testing

@testable import NibbleKV

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Disks that are full or fail, files that go: typed errors, the old file intact, the sequence still usable.
@Suite struct SessionFaultTests {
  private let folder: TemporaryFolder
  private var path: String { folder.file("a.session") }
  private let test = SessionCase.all[1]

  init() throws { folder = try TemporaryFolder() }

  /// A sequence with a save behind it, and more to save since.
  private func changed() throws -> KVSequence {
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<200, of: test.rows)
    try sequence.save(to: path)
    try sequence.append(200..<240, of: test.rows)
    return sequence
  }

  private func options(_ calls: FileCalls) -> SaveOptions {
    var options = SaveOptions()
    options.calls = calls
    return options
  }

  /// After a failure: the file has the old session, and everything works again.
  private func expectIntact(_ old: KVSequence, _ sequence: KVSequence) throws {
    try expectEqual(try test.cache().restoreSequence(from: path), old)
    #expect(folder.names == ["a.session"])
    try sequence.save(to: path)
    try expectEqual(
      try test.cache().restoreSequence(from: path),
      sequence,
      goingOnWith: test.rows
    )
  }

  @Test(arguments: [0, 1, 64, 100, 5_000, 20_000], [true, false])
  func aFullDisk(room: Int, appends: Bool) throws {
    let old = try test.cache().makeSequence()
    try old.append(0..<200, of: test.rows)
    let changed = try changed()
    let sequence = appends ? changed : changed.fork()
    let written = Counter()
    var calls = FileCalls.system
    calls.write = { descriptor, source, count, offset in
      let rest = room - written.value
      guard rest > 0 else {
        errno = ENOSPC
        return -1
      }
      written.add(min(rest, count))
      return FileCalls.system.write(descriptor, source, min(rest, count), offset)
    }
    let error = fileError { try sequence.save(to: path, options: options(calls)) }
    guard case .unwritable(_, let reason) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(reason.contains("space"))
    try expectIntact(old, sequence)
  }

  /// Folders that may not be written to, disks that turn out to be full when all was written, names that cannot be given.
  @Test(arguments: [
    (Faults.Call.open, EACCES), (.open, EROFS), (.sync, ENOSPC), (.sync, EDQUOT),
    (.rename, EACCES), (.rename, ENOSPC),
  ])
  func reasonsAreTold(call: Faults.Call, reason: Int32) throws {
    let old = try test.cache().makeSequence()
    try old.append(0..<200, of: test.rows)
    // A save that appends gives no name.
    for appends in call == .rename ? [false] : [true, false] {
      try? FileManager.default.removeItem(atPath: path)
      let changed = try changed()
      let sequence = appends ? changed : changed.fork()
      let faults = Faults()
      faults.fail(call, with: reason)
      let error = fileError { try sequence.save(to: path, options: options(faults.calls)) }
      guard case .unwritable(let place, text(reason)) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(place.hasPrefix(path))
      try expectIntact(old, sequence)
    }
  }

  @Test func slowDisksWriteAndReadLittleAtATimeAndSignalsComeInBetween() throws {
    let faults = Faults()
    faults.mostBytes.store(777, ordering: .relaxed)
    faults.isInterrupted.store(true, ordering: .relaxed)
    let sequence = try changed()
    try sequence.save(to: path, options: options(faults.calls))
    let again = sequence.fork()
    try again.save(to: folder.file("b"), options: options(faults.calls))
    for path in [path, folder.file("b")] {
      let restored = try test.cache().restoreSequence(from: path, calls: faults.calls)
      try expectEqual(restored, sequence)
    }
  }

  @Test func aFolderThatGoes() throws {
    let sequence = try changed()
    try FileManager.default.removeItem(atPath: folder.path)
    guard case .unwritable = fileError({ try sequence.save(to: path) }) else {
      Issue.record("saved")
      return
    }
    try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
    try sequence.save(to: path)
    try expectEqual(
      try test.cache().restoreSequence(from: path),
      sequence,
      goingOnWith: test.rows
    )
  }

  /// Every call that may fail does, one after the other; then the file has one of the two sessions.
  @Test(arguments: [true, false])
  func everyCallFailsOnce(appends: Bool) throws {
    var failures = 0
    for failing in 0..<200 {
      try? FileManager.default.removeItem(atPath: path)
      let changed = try changed()
      let sequence = appends ? changed : changed.fork()
      let count = Counter()
      let fails: @Sendable () -> Bool = {
        count.add(1)
        errno = EIO
        return count.value == failing + 1
      }
      var calls = FileCalls.system
      calls.open = { fails() ? -1 : FileCalls.system.open($0, $1, $2) }
      calls.write = { fails() ? -1 : FileCalls.system.write($0, $1, $2, $3) }
      calls.sync = { fails() ? -1 : FileCalls.system.sync($0) }
      calls.rename = { fails() ? -1 : FileCalls.system.rename($0, $1) }
      calls.truncate = { fails() ? -1 : FileCalls.system.truncate($0, $1) }
      let error = fileError { try sequence.save(to: path, options: options(calls)) }
      let restored = try test.cache().restoreSequence(from: path)
      if error != nil {
        failures += 1
        #expect(restored.tokenCount == 200 || restored.tokenCount == 240)
      } else {
        #expect(restored.tokenCount == 240)
      }
      try sequence.save(to: path)
      #expect(try SessionFile(path: path).faults().isEmpty)
      try expectEqual(try test.cache().restoreSequence(from: path), sequence)
      if count.value <= failing { break }
    }
    #expect(failures > 5)
  }

  @Test func unreadableAndDamagedPages() throws {
    try changed().save(to: path)
    let fails = Counter()
    var calls = FileCalls.system
    calls.read = { descriptor, target, count, offset in
      errno = EIO
      return fails.value == 1 ? -1 : FileCalls.system.read(descriptor, target, count, offset)
    }
    let restored = try test.cache().restoreSequence(from: path, calls: calls)
    fails.add(1)
    let queries = randomQueries(shape: test.shape)
    #expect(fileError { _ = try restored.attended(queries) } != nil)
    #expect(fileError { try restored.append(240..<241, of: test.rows) } != nil)
    #expect(fileError { try restored.save(to: folder.file("b")) } != nil)
    #expect(folder.names == ["a.session"])
    fails.add(1)
    _ = try restored.attended(queries)
    // A bit of the first sealed page, of which the checksum was taken.
    let page = try #require(SessionFile(path: path).index.layers[1].pages.first)
    var damaged = try bytes(of: path)
    damaged[page.offset + 100] ^= 4
    let other = folder.file("damaged")
    try write(damaged, to: other)
    let sequence = try test.cache().restoreSequence(from: other)
    _ = try sequence.attended(queries, layer: 0)
    let error = fileError { _ = try sequence.attended(queries, layer: 1) }
    #expect(
      error == .damaged(file: other, what: "a page's checksum", offset: UInt64(page.offset))
    )
    #expect(try SessionFile(path: other).faults() == [try #require(error)])
    #expect(fileError { try sequence.save(to: folder.file("c")) } == error)
  }

  @Test func aFileThatIsCutOffWhileItIsInUse() throws {
    let sequence = try changed()
    try sequence.save(to: path)
    let restored = try test.cache().restoreSequence(from: path)
    try FileHandle(forWritingTo: URL(fileURLWithPath: path)).truncate(atOffset: 9_000)
    let error = fileError { _ = try restored.attended(randomQueries(shape: test.shape)) }
    guard case .truncated = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    // The file is not what the sequence knows any more, so it is written anew.
    try sequence.save(to: path)
    try expectEqual(try test.cache().restoreSequence(from: path), sequence)
  }

  @Test func foldersThatAreNotThere() throws {
    let sequence = try changed()
    for path in [folder.file("no/such.session"), folder.path, ""] {
      guard case .unwritable = fileError({ try sequence.save(to: path) }) else {
        Issue.record("\(path) was written")
        continue
      }
    }
    #expect(folder.names == ["a.session"])
    guard case .unreadable = fileError({ _ = try test.cache().restoreSequence(from: "no/such") })
    else {
      Issue.record("read")
      return
    }
    try expectEqual(sequence, sequence.fork(), goingOnWith: test.rows)
  }

  @Test func twoSavesAtOnce() throws {
    let sequence = try changed()
    let busy = FileError.unwritable(path: path, reason: "somebody else is saving to it")
    let before = try bytes(of: path)
    for name in ["a.session", "a.session.saving"] {
      let other = open(folder.file(name), O_RDWR | O_CREAT, 0o600)
      #expect(flock(other, LOCK_EX) == 0)
      // One that appends, one that writes anew; a file that is being appended to has no use for the other name.
      if name == "a.session" { #expect(fileError { try sequence.save(to: path) } == busy) }
      #expect(fileError { try sequence.fork().save(to: path) } == busy)
      close(other)
      #expect(try bytes(of: path) == before)
    }
    try sequence.fork().save(to: path)
    #expect(folder.names == ["a.session"])
  }

  /// A save that was cut short is cut off by the next one.
  @Test(arguments: [1, 64, 65, 1_000])
  func unfinishedSaves(surplus: Int) throws {
    let sequence = try changed()
    let superblock = try SessionFile(path: path).superblock
    let before = try bytes(of: path)
    let header = SessionSegment(after: superblock).bytes
    let rest = Array((header + Array(repeating: 7, count: 1_000)).prefix(surplus))
    try write(before + rest, to: folder.file("b"))
    let session = try SessionFile(path: folder.file("b"))
    #expect(session.unfinishedBytes == surplus)
    let restored = try test.cache().restoreSequence(from: folder.file("b"))
    try restored.append(200..<240, of: test.rows)
    try restored.save(to: folder.file("b"))
    try expectEqual(try test.cache().restoreSequence(from: folder.file("b")), sequence)
    #expect(try SessionFile(path: folder.file("b")).superblock.generation == 2)
    // The same bytes from somebody else.
    let foreign = before + Array(repeating: 7, count: 65)
    try write(foreign, to: folder.file("c"))
    #expect(
      fileError { _ = try SessionFile(path: folder.file("c")) }
        == .longer(
          file: folder.file("c"),
          byteCount: UInt64(foreign.count),
          expected: UInt64(before.count)
        )
    )
  }
}
