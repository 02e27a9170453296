import NibbleKV

#if canImport(Darwin)
import Darwin
#elseif canImport(Musl)
import Musl
#else
import Glibc
#endif

/// The status codes of `nibblekv.h`.
enum Status: Int32 {
  case done = 0
  case invalidArgument = 1
  case invalidPolicy = 2
  case overBudget = 3
  case failed = 4
  case fileFailed = 5
  case otherSession = 6
}

/// A mistake in a call that only the C interface can notice.
struct CallError: Error, CustomStringConvertible {
  let description: String
}

/// Runs the body of a call; an error becomes a status, and its text the thread's last message.
func reporting(_ body: () throws -> Void) -> Int32 {
  do {
    try body()
    return Status.done.rawValue
  } catch {
    LastMessage.set(String(describing: error))
    return status(of: error).rawValue
  }
}

private func status(of error: any Error) -> Status {
  switch error {
  case is CallError: .invalidArgument
  case is PolicyError, is CodecError: .invalidPolicy
  case let error as KVError: error.status
  default: .failed
  }
}

extension KVError {
  fileprivate var status: Status {
    switch self {
    case .layerOutOfRange, .wrongLength, .unequalLengths, .valueOutOfRange, .tooManyQueries,
      .invalidOption, .positionOutOfRange, .positionDropped:
      .invalidArgument
    case .policy: .invalidPolicy
    case .budgetExceeded, .diskBudgetExceeded: .overBudget
    case .file: .fileFailed
    case .otherModel, .otherPlan: .otherSession
    default: .failed
    }
  }
}

/// The message of a thread's last failed call, as a C string that lives until the next one.
enum LastMessage {
  /// The slot that each thread has of its own; nil where the process has no slot left, which leaves
  /// the messages empty.
  private static let slot: pthread_key_t? = {
    var key = pthread_key_t()
    return pthread_key_create(&key, { free($0) }) == 0 ? key : nil
  }()
  /// Static memory, which ends with a null character.
  private static let empty: StaticString = ""

  static func set(_ message: String) {
    guard let slot else { return }
    let old = pthread_getspecific(slot)
    let new = strdup(message)
    free(pthread_setspecific(slot, new) == 0 ? old : UnsafeMutableRawPointer(new))
  }

  static var pointer: UnsafePointer<CChar> {
    guard let slot, let stored = pthread_getspecific(slot) else {
      return UnsafeRawPointer(empty.utf8Start).assumingMemoryBound(to: CChar.self)
    }
    return UnsafePointer(stored.assumingMemoryBound(to: CChar.self))
  }
}
