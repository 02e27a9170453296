public import NibbleKV
public import NibbleLlama

/// What policies cost a model in bytes, as `plan` reports it; the names of its JSON fields are fixed by Specs/cli.md.
public struct MemoryPlan: Encodable, Hashable, Sendable {
  /// What a given memory is enough for.
  public struct Fit: Encodable, Hashable, Sendable {
    /// The policy as it was given.
    public var policy: String
    /// The memory.
    public var memoryBytes: Int
    /// Sequences at once.
    public var sequences: Int
    /// The most tokens that each of them may have, up to `ModelShape.tokenLimit`; `nil` if not even one token fits.
    @Nullable public var longestContext: Int?
    /// What they take then.
    @Nullable public var bytes: Int?

    private enum CodingKeys: String, CodingKey {
      case policy
      case memoryBytes = "memory_bytes"
      case sequences
      case longestContext = "longest_context"
      case bytes
    }
  }

  /// Layers that the plan leaves out, and why.
  public struct NotCovered: Encodable, Hashable, Sendable {
    /// Layers of the model, such as `0-2,4-6`.
    public var layers: String
    /// Why.
    public var reason: String
  }

  /// What is planned, and how it is fed.
  public struct Question: Hashable, Sendable {
    /// Tokens of each sequence; a row for each.
    public var contexts: [Int]
    /// Tokens that a prefill appends at once.
    public var chunk: Int
    /// Threads of the cache.
    public var threads: Int
    /// Sequences of that context.
    public var sequences: Int
    /// Tokens that all of them begin with.
    public var shared: Int
    /// Bytes that there are.
    public var memory: Int?

    /// Asks about contexts of one sequence, or of several.
    public init(
      contexts: [Int],
      chunk: Int = 512,
      threads: Int,
      sequences: Int = 1,
      shared: Int = 0,
      memory: Int? = nil
    ) {
      self.contexts = contexts
      self.chunk = chunk
      self.threads = threads
      self.sequences = sequences
      self.shared = shared
      self.memory = memory
    }
  }

  /// Layers of the model, with and without attention.
  public var layers: Int
  /// Those that are planned.
  public var coveredLayers: Int
  /// The others.
  public var notCovered: [NotCovered]
  /// What else the bytes leave out.
  public var notes: [String]
  /// One row for each policy and context.
  public var rows: [PlanRow] = []
  /// One for each policy if the question names a memory.
  public var memory: [Fit] = []

  private enum CodingKeys: String, CodingKey {
    case layers
    case coveredLayers = "covered_layers"
    case notCovered = "not_covered"
    case notes, rows, memory
  }

  /// Plans a model of which every layer is covered.
  ///
  /// - Parameters:
  ///   - policies: What to compress, and how hard.
  ///   - shape: The model.
  ///   - question: What is planned.
  ///   - catalogue: What the policies may refer to.
  /// - Throws: `PolicyError` if a policy does not fit the model or a number is out of its range.
  public init(
    policies: [Policy],
    shape: ModelShape,
    question: Question,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) {
    layers = shape.layers
    coveredLayers = shape.layers
    notCovered = []
    notes = []
    for policy in policies {
      let plan = try Plan(policy: policy, shape: shape, catalogue: catalogue)
      for context in question.contexts {
        var row = PlanRow(policy: policy, estimate: try plan.estimate(question, context: context))
        if let memory = question.memory {
          row.mostSequences = try plan.mostSequences(question, context: context, memory: memory)
        }
        rows.append(row)
      }
      if let memory = question.memory {
        let longest = try plan.longestContext(question, memory: memory)
        self.memory.append(
          Fit(
            policy: policy.label,
            memoryBytes: memory,
            sequences: question.sequences,
            longestContext: longest,
            bytes: try longest.map { longest throws(PolicyError) in
              try plan.estimate(question, context: longest).total
            }
          )
        )
      }
    }
  }

  /// Says which layers of the model the plan leaves out.
  public mutating func describe(_ outline: ModelOutline) {
    layers = outline.layers
    notes = outline.notes
    notCovered = outline.uncovered.map {
      NotCovered(
        layers: IndexSelection.text($0.layers, of: outline.layers),
        reason: $0.reason
      )
    }
  }
}

extension Plan {
  fileprivate func estimate(
    _ question: MemoryPlan.Question,
    context: Int,
    sequences: Int? = nil
  ) throws(PolicyError) -> MemoryEstimate {
    try estimate(
      context: context,
      chunk: question.chunk,
      threads: question.threads,
      sequences: sequences ?? question.sequences,
      shared: min(question.shared, context)
    )
  }

  /// The most tokens with which the sequences fit; one more do not.
  fileprivate func longestContext(
    _ question: MemoryPlan.Question,
    memory: Int
  ) throws(PolicyError) -> Int? {
    let most = min(ModelShape.tokenLimit, Self.batchTokenLimit / question.sequences)
    return try largest(upTo: most) { context throws(PolicyError) in
      try estimate(question, context: context).total <= memory
    }
  }

  /// The most sequences of a context that fit; 0 if none does.
  fileprivate func mostSequences(
    _ question: MemoryPlan.Question,
    context: Int,
    memory: Int
  ) throws(PolicyError) -> Int {
    let most = min(Self.sequenceLimit, Self.batchTokenLimit / max(1, context))
    return try largest(upTo: most) { sequences throws(PolicyError) in
      try estimate(question, context: context, sequences: sequences).total <= memory
    } ?? 0
  }
}

/// The largest number from 1 to `most` that fits, where all smaller ones do too.
private func largest(
  upTo most: Int,
  fits: (Int) throws(PolicyError) -> Bool
) throws(PolicyError) -> Int? {
  guard try fits(1) else { return nil }
  var low = 1
  var high = most + 1
  while high - low > 1 {
    let middle = low + (high - low) / 2
    if try fits(middle) { low = middle } else { high = middle }
  }
  return low
}
