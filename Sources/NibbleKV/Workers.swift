import Dispatch
import Synchronization

/// Runs items on several threads.
///
/// Which thread takes which item never matters to the result.
struct Workers: Sendable {
  /// Threads that may work at once, the caller's included.
  let count: Int

  /// Calls `body` for every item, with the number (0 ..< `count`) of the worker that runs it.
  func run(items: Int, _ body: (_ item: Int, _ worker: Int) -> Void) {
    guard count > 1, items > 1 else {
      for item in 0..<items { body(item, 0) }
      return
    }
    let next = Atomic(0)
    withoutActuallyEscaping(body) { body in
      // Concurrent by contract: `body` only touches what belongs to its item or its worker.
      nonisolated(unsafe) let body = body
      DispatchQueue.concurrentPerform(iterations: min(count, items)) { worker in
        while true {
          let item = next.wrappingAdd(1, ordering: .relaxed).oldValue
          guard item < items else { return }
          body(item, worker)
        }
      }
    }
  }
}

/// The failure of the first item that failed: the same one whatever the threads did.
final class FirstFailure: Sendable {
  private let first = Mutex<(item: Int, error: KVError)?>(nil)

  func record(_ error: KVError, item: Int) {
    first.withLock { first in
      if let known = first, known.item <= item { return }
      first = (item, error)
    }
  }

  func rethrow() throws(KVError) {
    if let failure = first.withLock({ $0 }) { throw failure.error }
  }
}
