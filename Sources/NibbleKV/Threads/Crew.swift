import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The threads of one ``Workers``: started as calls need them, stopped and joined when the crew goes.
final class Crew: Sendable {
  private let limit: Int
  private let jobs = JobBoard()
  private let threads = Mutex<[SystemThread]>([])
  private let started = Atomic(0)
  /// Threads do not survive a fork of the process.
  private let process = getpid()

  /// A crew of up to `threads` threads beside the callers'.
  init(threads: Int) { limit = max(0, threads) }

  deinit {
    guard process == getpid() else { return }
    jobs.stop()
    for thread in threads.withLock({ $0 }) { thread.end() }
  }

  /// Runs all items of `work`, on the caller's thread and those that are free.
  func run(items: Int, _ work: any WorkItems) {
    let helpers = min(limit, items - 1)
    guard helpers > 0, process == getpid(), let job = jobs.take() else {
      for item in 0..<items { work.run(item: item, worker: 0) }
      return
    }
    if started.load(ordering: .acquiring) < helpers { start(helpers) }
    job.open(items: items, work)
    jobs.announce(helpers: helpers)
    job.work(as: 0)
    job.close()
    withExtendedLifetime(self) {}
  }

  /// Starts threads until there are `count`.
  ///
  /// Where the system refuses one, the others do its work.
  private func start(_ count: Int) {
    threads.withLock { threads in
      while threads.count < count {
        guard let thread = SystemThread(jobs: jobs, worker: threads.count + 1) else { return }
        threads.append(thread)
      }
      started.store(threads.count, ordering: .releasing)
    }
  }
}

/// The calls under way, and the place where threads wait for the next.
private final class JobBoard: Sendable {
  private let jobs = (0..<callLimit).map { _ in Job() }
  private let announcements = Atomic(0)
  private let isStopping = Atomic(false)
  private let idle = WaitPoint()

  /// Calls that may have helpers at the same time.
  private static let callLimit = 16

  func take() -> Job? { jobs.first { $0.take() } }

  /// Calls for helpers for an open job.
  func announce(helpers: Int) {
    announcements.wrappingAdd(1, ordering: .sequentiallyConsistent)
    idle.wake(helpers)
  }

  func stop() {
    isStopping.store(true, ordering: .sequentiallyConsistent)
    announce(helpers: .max)
  }

  /// Helps with one job after the other until the board stops.
  func help(as worker: Int) {
    while true {
      let seen = announcements.load(ordering: .sequentiallyConsistent)
      if isStopping.load(ordering: .sequentiallyConsistent) { return }
      if let job = neediest {
        if job.join() {
          job.work(as: worker)
          job.leave()
        }
      } else {
        idle.wait { announcements.load(ordering: .sequentiallyConsistent) != seen }
      }
    }
  }

  /// The job with the fewest helpers.
  private var neediest: Job? {
    var found: (job: Job, helpers: Int)?
    for job in jobs {
      guard let helpers = job.helpers else { continue }
      if let found, found.helpers <= helpers { continue }
      found = (job, helpers)
    }
    return found?.job
  }
}

// MARK: - Threads of the system

/// A running thread that helps.
///
/// `@unchecked`: a handle that is never changed.
private struct SystemThread: @unchecked Sendable {
  private let handle: pthread_t

  private final class Start {
    let jobs: JobBoard
    let worker: Int

    init(jobs: JobBoard, worker: Int) {
      self.jobs = jobs
      self.worker = worker
    }
  }

  init?(jobs: JobBoard, worker: Int) {
    let start = Unmanaged.passRetained(Start(jobs: jobs, worker: worker))
    #if canImport(Darwin)
    var created: pthread_t?
    let status = pthread_create(
      &created,
      nil,
      {
        SystemThread.main($0)
        return nil
      },
      start.toOpaque()
    )
    #else
    var thread = pthread_t()
    let status = pthread_create(
      &thread,
      nil,
      {
        if let start = $0 { SystemThread.main(start) }
        return nil
      },
      start.toOpaque()
    )
    let created: pthread_t? = thread
    #endif
    guard status == 0, let created else {
      start.release()
      return nil
    }
    handle = created
  }

  private static func main(_ start: UnsafeMutableRawPointer) {
    let start = Unmanaged<Start>.fromOpaque(start).takeRetainedValue()
    start.jobs.help(as: start.worker)
  }

  /// Waits for the end of a thread that has been told to stop; a thread cannot wait for itself.
  func end() {
    if pthread_equal(handle, pthread_self()) != 0 {
      pthread_detach(handle)
    } else {
      pthread_join(handle, nil)
    }
  }
}
