import Synchronization

/// The living sequences of a cache, and when each was last used.
final class SequenceRegistry: Sendable {
  private let entries = Mutex<[ObjectIdentifier: Entry]>([:])
  private let clock = Atomic(0)

  private struct Entry {
    weak var sequence: KVSequence?
  }

  var count: Int { entries.withLock { $0.count } }

  func add(_ sequence: KVSequence) {
    let key = ObjectIdentifier(sequence)
    entries.withLock { $0[key] = Entry(sequence: sequence) }
  }

  func remove(_ key: ObjectIdentifier) {
    entries.withLock { _ = $0.removeValue(forKey: key) }
  }

  /// A number that is larger than all before.
  func tick() -> Int { clock.wrappingAdd(1, ordering: .relaxed).newValue }

  /// All sequences, the one that has not been used for longest first.
  func leastRecentFirst() -> [KVSequence] {
    let sequences = entries.withLock { $0.values.compactMap(\.sequence) }
    return sequences.map { ($0.lastUse.load(ordering: .relaxed), $0) }
      .sorted { $0.0 < $1.0 }.map(\.1)
  }
}
