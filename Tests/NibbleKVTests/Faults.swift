import Foundation
import NibbleFiles
import Synchronization

/// System calls that fail as they are told.
final class Faults: Sendable {
  enum Call: Sendable { case open, read, write, sync, truncate, rename }

  /// Whether every second call is interrupted by a signal.
  let isInterrupted = Atomic(false)
  /// The most bytes that a call reads or writes.
  let mostBytes = Atomic(Int.max)
  /// What was opened last.
  let opened = Atomic<Int32>(-1)
  private let failures = Mutex<[Call: Int32]>([:])
  private let count = Atomic(0)

  /// Makes all calls of a kind fail for a reason, or go on.
  func fail(_ call: Call, with reason: Int32?) { failures.withLock { $0[call] = reason } }

  private func fails(_ call: Call) -> Bool {
    if isInterrupted.load(ordering: .relaxed), call != .rename,
      count.wrappingAdd(1, ordering: .relaxed).newValue % 2 == 1
    {
      errno = EINTR
      return true
    }
    guard let reason = failures.withLock({ $0[call] }) else { return false }
    errno = reason
    return true
  }

  private func most(_ count: Int) -> Int { min(count, mostBytes.load(ordering: .relaxed)) }

  var calls: FileCalls {
    var calls = FileCalls.system
    calls.open = { [self] path, flags, mode in
      if fails(.open) { return -1 }
      let descriptor = FileCalls.system.open(path, flags, mode)
      opened.store(descriptor, ordering: .relaxed)
      return descriptor
    }
    calls.read = { [self] in
      fails(.read) ? -1 : FileCalls.system.read($0, $1, most($2), $3)
    }
    calls.write = { [self] in
      fails(.write) ? -1 : FileCalls.system.write($0, $1, most($2), $3)
    }
    calls.sync = { [self] in fails(.sync) ? -1 : FileCalls.system.sync($0) }
    calls.truncate = { [self] in fails(.truncate) ? -1 : FileCalls.system.truncate($0, $1) }
    calls.rename = { [self] in fails(.rename) ? -1 : FileCalls.system.rename($0, $1) }
    return calls
  }
}

/// The system's words for a reason.
func text(_ reason: Int32) -> String { String(cString: strerror(reason)) }
