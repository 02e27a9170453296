/// How far a long measurement is.
public struct WorkProgress: Hashable, Sendable {
  /// What is being done, in a word or two.
  public var phase: String
  /// Units that are done.
  public var completed: Int
  /// Units of the phase.
  public var total: Int

  /// Creates a report.
  public init(phase: String, completed: Int, total: Int) {
    self.phase = phase
    self.completed = completed
    self.total = total
  }
}

/// Receives reports of a long measurement, on the thread that measures.
public typealias ProgressHandler = (WorkProgress) -> Void
