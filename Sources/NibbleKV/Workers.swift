import Dispatch
import Synchronization

/// Runs items on several threads.
///
/// Which thread takes which item never matters to the result.
package struct Workers: Sendable {
  /// Threads that may work at once, the caller's included.
  package let count: Int

  package init(count: Int) {
    self.count = count
  }

  /// Calls `body` for every item, with the number (0 ..< `count`) of the worker that runs it.
  package func run(items: Int, _ body: (_ item: Int, _ worker: Int) -> Void) {
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

extension Workers {
  /// The values of `body` for 0 ..< `items`, in their order.
  ///
  /// - Throws: The error of the first item that failed.
  package func map<Value: Sendable>(
    items: Int,
    _ body: (_ item: Int) throws -> Value
  ) throws -> [Value] {
    let results = Mutex([Result<Value, any Error>?](repeating: nil, count: items))
    run(items: items) { item, _ in
      let result = Result { try body(item) }
      results.withLock { $0[item] = result }
    }
    return try results.withLock { $0 }.compactMap { try $0?.get() }
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
