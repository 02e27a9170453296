internal import CNibble
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Where threads wait for what another thread does: they watch for a moment, then sleep.
///
/// `@unchecked`: the mutex and the condition are made for threads.
final class WaitPoint: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let sleepers = Atomic(0)

  /// Nanoseconds of watching: about what it costs to put a thread to sleep and to wake it.
  private static let watch = 50_000

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Returns once `isDone`, which reads with sequentially consistent ordering what others change.
  func wait(until isDone: () -> Bool) {
    let deadline = Self.now + Self.watch
    repeat {
      for _ in 0..<32 {
        if isDone() { return }
        nibble_pause()
      }
    } while Self.now < deadline
    pthread_mutex_lock(mutex)
    // Either the change comes before this and is seen below, or `wake` sees that somebody sleeps.
    sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
    while !isDone() { pthread_cond_wait(condition, mutex) }
    sleepers.wrappingSubtract(1, ordering: .relaxed)
    pthread_mutex_unlock(mutex)
  }

  /// Wakes up to `count` sleepers, after a change that was made with sequentially consistent ordering.
  func wake(_ count: Int) {
    let sleeping = sleepers.load(ordering: .sequentiallyConsistent)
    guard sleeping > 0, count > 0 else { return }
    pthread_mutex_lock(mutex)
    if count < sleeping {
      for _ in 0..<count { pthread_cond_signal(condition) }
    } else {
      pthread_cond_broadcast(condition)
    }
    pthread_mutex_unlock(mutex)
  }

  private static var now: Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec * 1_000_000_000 + time.tv_nsec
  }
}
