import Synchronization

/// One call that other threads may help with; when it is over, the next call takes its place.
///
/// Free, taken by a caller, open to helpers, closed again until the last helper has left, free.
///
/// `@unchecked`: `work` is written while the job is taken and not open, and read by its caller and its helpers only.
final class Job: @unchecked Sendable {
  private let state = Atomic(free)
  private let next = Atomic(0)
  private let end = Atomic(0)
  private let helpersLeft = WaitPoint()
  private var work: (any WorkItems)?

  private static let free = 0
  private static let taken = 1 << 30
  private static let open = 1 << 29
  private static let helperMask = open - 1

  // MARK: - The caller's side

  /// Takes the job if it is free.
  func take() -> Bool {
    state.compareExchange(expected: Self.free, desired: Self.taken, ordering: .acquiring).exchanged
  }

  func open(items: Int, _ work: any WorkItems) {
    self.work = work
    next.store(0, ordering: .relaxed)
    end.store(items, ordering: .relaxed)
    state.store(Self.taken | Self.open, ordering: .releasing)
  }

  /// Lets nobody in any more, waits for the items that helpers are at, and frees the job.
  func close() {
    state.bitwiseAnd(~Self.open, ordering: .sequentiallyConsistent)
    helpersLeft.wait { state.load(ordering: .sequentiallyConsistent) == Self.taken }
    work = nil
    state.store(Self.free, ordering: .releasing)
  }

  // MARK: - The helpers' side

  /// How many help, or `nil` if there is nothing left to help with.
  var helpers: Int? {
    let state = state.load(ordering: .relaxed)
    guard state & Self.open != 0 else { return nil }
    guard next.load(ordering: .relaxed) < end.load(ordering: .relaxed) else { return nil }
    return state & Self.helperMask
  }

  /// Joins the job if it is still open.
  func join() -> Bool {
    var known = state.load(ordering: .relaxed)
    while known & Self.open != 0 {
      let (exchanged, original) = state.compareExchange(
        expected: known,
        desired: known + 1,
        ordering: .acquiring
      )
      if exchanged { return true }
      known = original
    }
    return false
  }

  func leave() {
    let left = state.wrappingSubtract(1, ordering: .sequentiallyConsistent).newValue
    if left == Self.taken { helpersLeft.wake(1) }
  }

  // MARK: - Both

  /// Does items until none is left.
  ///
  /// Not inlined, so that its hold on `work` ends before a helper leaves.
  @inline(never)
  func work(as worker: Int) {
    guard let work else { return }
    let items = end.load(ordering: .relaxed)
    while true {
      let item = next.wrappingAdd(1, ordering: .relaxed).oldValue
      guard item < items else { return }
      work.run(item: item, worker: worker)
    }
  }
}
