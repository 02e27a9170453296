import Foundation
import NibbleFiles
import Synchronization
import Testing

@testable import NibbleKV

/// Losses of power: of what was written since the last `fsync`, any sectors may be on disk, in any order.
@Suite struct SessionPowerLossTests {
  @Test(arguments: [0, 1, 2])
  func leaveTheOldSessionOrTheNew(seed: UInt64) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("a.session")
    let test = SessionCase(policy: "linear:4@page_tokens=16@recent=16@mean=removed", headDim: 16)
    var random = SeededRandom(seed)
    let sequence = try test.cache().makeSequence()
    var old: KVSequence?
    var outcomes: [Bool: Int] = [:]
    for save in 0..<12 {
      let count = sequence.tokenCount
      if save == 5 { try sequence.truncate(to: 3) }
      try sequence.append(
        sequence.tokenCount..<count + Int.random(in: 1..<20, using: &random),
        of: test.rows
      )
      let disk = RecordedDisk(path: path)
      var options = SaveOptions()
      options.calls = disk.calls
      try sequence.save(to: path, options: options)
      let whole = try bytes(of: path)
      for _ in 0..<15 {
        guard let image = disk.image(random: &random) else {
          #expect(old == nil)
          continue
        }
        try write(image, to: folder.file("image"))
        let restored = try test.cache().restoreSequence(from: folder.file("image"))
        let isNew = try restored.allRows() == sequence.allRows()
        outcomes[isNew, default: 0] += 1
        try expectEqual(restored, isNew ? sequence : try #require(old))
      }
      #expect(try disk.finalImage() == whole)
      old = sequence.fork()
    }
    // Both happen.
    #expect(outcomes[false, default: 0] > 10 && outcomes[true, default: 0] > 10)
  }
}

/// Records what a save does, and tells what a disk may have of it after a loss of power.
private final class RecordedDisk: Sendable {
  private enum Event: Sendable {
    case write(file: Int32, offset: Int, bytes: [UInt8])
    case truncate(file: Int32, byteCount: Int)
    case sync(file: Int32)
    case rename
  }

  private struct State: Sendable {
    /// What the name stood for before.
    var before: [UInt8]?
    /// Descriptors of the session's own file, of its successor, and of the folder.
    var roles: [Int32: Role] = [:]
    var events: [Event] = []
  }

  private enum Role: Sendable { case session, successor, folder }

  private let state: Mutex<State>

  init(path: String) {
    state = Mutex(State(before: try? bytes(of: path)))
  }

  var calls: FileCalls {
    var calls = FileCalls.system
    calls.open = { path, flags, mode in
      let file = FileCalls.system.open(path, flags, mode)
      self.state.withLock {
        $0.roles[file] =
          path.hasSuffix(".saving") ? .successor : path.hasSuffix(".session") ? .session : .folder
      }
      return file
    }
    calls.write = { file, source, count, offset in
      let bytes = Array(UnsafeRawBufferPointer(start: source, count: count))
      self.note(.write(file: file, offset: offset, bytes: bytes))
      return FileCalls.system.write(file, source, count, offset)
    }
    calls.truncate = { file, byteCount in
      self.note(.truncate(file: file, byteCount: byteCount))
      return FileCalls.system.truncate(file, byteCount)
    }
    calls.sync = { file in
      self.note(.sync(file: file))
      return 0
    }
    calls.rename = { from, to in
      self.note(.rename)
      return FileCalls.system.rename(from, to)
    }
    return calls
  }

  private func note(_ event: Event) { state.withLock { $0.events.append(event) } }

  /// One file: what is safe, and what was done since.
  private struct File {
    var safe: [UInt8]
    var pending: [Event] = []

    mutating func sync() {
      for event in pending { apply(event) }
      pending = []
    }

    mutating func apply(_ event: Event) {
      switch event {
      case .write(_, let offset, let bytes): put(bytes, at: offset)
      case .truncate(_, let byteCount):
        safe = Array(safe.prefix(byteCount))
        put([], at: byteCount)
      default: break
      }
    }

    private mutating func put(_ bytes: [UInt8], at offset: Int) {
      let end = max(safe.count, offset + bytes.count)
      safe += Array(repeating: 0, count: end - safe.count)
      safe.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }

    /// Some sectors of what is pending, and any length that the file had meanwhile.
    mutating func lose(using random: inout SeededRandom) {
      for event in pending {
        guard case .write(let file, let offset, let bytes) = event else {
          if Bool.random(using: &random) { apply(event) }
          continue
        }
        if Bool.random(using: &random) { put([], at: offset + bytes.count) }
        var start = 0
        while start < bytes.count {
          let end = min(bytes.count, start + 512 - (offset + start) % 512)
          if Bool.random(using: &random) {
            apply(.write(file: file, offset: offset + start, bytes: Array(bytes[start..<end])))
          }
          start = end
        }
      }
      pending = []
    }
  }

  /// The session's file after a loss of power at some moment; `nil` if there is none.
  func image(random: inout SeededRandom) -> [UInt8]? {
    let count = state.withLock { $0.events.count }
    // Often near the end, where it is decided which session it is.
    let first = Bool.random(using: &random) ? 0 : max(0, count - 3)
    let events = Int.random(in: first...count, using: &random)
    let isRenamed = Bool.random(using: &random)
    return image(events: events, settle: { $0.lose(using: &random) }, isRenamed: { isRenamed })
  }

  /// The file if nothing is lost.
  func finalImage() throws -> [UInt8]? {
    image(events: state.withLock { $0.events.count }, settle: { $0.sync() }, isRenamed: { true })
  }

  private func image(
    events: Int,
    settle: (inout File) -> Void,
    isRenamed: () -> Bool
  ) -> [UInt8]? {
    let state = state.withLock { $0 }
    var session = state.before.map { File(safe: $0) }
    var successor = File(safe: [])
    var renamed: Bool?
    for event in state.events.prefix(events) {
      switch event {
      case .rename: renamed = false
      case .sync(let file):
        switch state.roles[file] {
        case .session: session?.sync()
        case .successor: successor.sync()
        default: if renamed != nil { renamed = true }
        }
      case .write(let file, _, _), .truncate(let file, _):
        if state.roles[file] == .successor {
          successor.pending.append(event)
        } else {
          session?.pending.append(event)
        }
      }
    }
    let takesSuccessor = renamed == true || renamed == false && isRenamed()
    var result = takesSuccessor ? successor : session
    if var file = result {
      settle(&file)
      result = file
    }
    return result?.safe
  }
}
