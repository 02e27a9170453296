import Synchronization

/// Runs items on several threads, which are started when first needed and end with the last copy of the value.
///
/// The caller always works too, so calls may come from several threads at once and from inside an item: those that find all
/// other threads busy do their items alone. Which thread takes which item never matters to the result.
package struct Workers: Sendable {
  /// Threads that may work at once, the caller's included.
  package let count: Int
  private let crew: Crew

  package init(count: Int) {
    self.count = count
    crew = Crew(threads: count - 1)
  }

  /// Runs every item of `work`, with the number (0 ..< `count`) of the worker that runs it.
  ///
  /// Takes no memory once the threads are there.
  package func run(items: Int, _ work: any WorkItems) {
    crew.run(items: items, work)
  }

  /// Calls `body` for every item, with the number (0 ..< `count`) of the worker that runs it.
  package func run(items: Int, _ body: (_ item: Int, _ worker: Int) -> Void) {
    withoutActuallyEscaping(body) { run(items: items, ClosureItems(body: $0)) }
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

/// Items of work, each of which touches only what belongs to it or to its worker.
package protocol WorkItems: AnyObject, Sendable {
  /// Does one item; `worker` is no other item's at this time.
  func run(item: Int, worker: Int)
}

/// `@unchecked`: concurrent by contract, like all items.
private final class ClosureItems: WorkItems, @unchecked Sendable {
  private let body: (_ item: Int, _ worker: Int) -> Void

  init(body: @escaping (_ item: Int, _ worker: Int) -> Void) { self.body = body }

  func run(item: Int, worker: Int) { body(item, worker) }
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

  /// Throws what was recorded, and forgets it.
  func rethrow() throws(KVError) {
    let failure = first.withLock { first in
      defer { first = nil }
      return first
    }
    if let failure { throw failure.error }
  }
}
