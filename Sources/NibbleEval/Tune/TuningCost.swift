import NibbleKV

/// Bytes of policies, and how many a budget allows.
struct TuningCost {
  let shape: ModelShape
  let catalogue: CodecCatalogue
  let context: Int
  /// Whether working memory counts, and chunks of a prefill.
  private let countsEverything: Bool
  /// Bytes.
  private(set) var limit = 0

  /// Counts what a budget allows.
  ///
  /// - Parameters:
  ///   - budget: The budget.
  ///   - start: The policy whose sinks and tail a budget of bits per value stands beside.
  ///   - context: Tokens, unless the budget names them.
  ///   - shape: The model.
  ///   - catalogue: The codecs.
  /// - Throws: `PolicyError` if the start does not fit the model.
  init(
    budget: TuningBudget,
    start: Policy,
    context: Int,
    shape: ModelShape,
    catalogue: CodecCatalogue
  ) throws {
    self.shape = shape
    self.catalogue = catalogue
    switch budget {
    case .bitsPerValue, .share:
      self.context = context
      countsEverything = false
    case .bytes(_, let context):
      self.context = context
      countsEverything = true
    }
    switch budget {
    case .bitsPerValue(let bits):
      let held = try estimate(start)
      limit = Int((bits * held.values / 8).rounded()) + held.tail + held.sinks
    case .share(let share):
      limit = Int(share * Double(try estimate(start).float16Bytes))
    case .bytes(let bytes, _):
      limit = bytes
    }
  }

  /// Bytes of a sequence of ``context`` tokens.
  func bytes(of policy: Policy) throws(PolicyError) -> Int {
    let estimate = try estimate(policy)
    return countsEverything ? estimate.total : estimate.held
  }

  /// Bits per value of sealed pages.
  func bitsPerValue(of policy: Policy) throws(PolicyError) -> Double {
    try estimate(policy).bitsPerValue
  }

  func fits(_ policy: Policy) throws(PolicyError) -> Bool {
    try bytes(of: policy) <= limit
  }

  /// This cost with so many more bits for each value of sealed pages.
  func changed(byBitsPerValue bits: Double, of policy: Policy) throws(PolicyError) -> TuningCost {
    var copy = self
    copy.limit += Int(bits * (try estimate(policy).values) / 8)
    return copy
  }

  private func estimate(_ policy: Policy) throws(PolicyError) -> MemoryEstimate {
    try Plan(policy: policy, shape: shape, catalogue: catalogue).estimate(
      context: context,
      chunk: countsEverything ? 512 : policy.pageTokens,
      threads: 1
    )
  }
}

extension MemoryEstimate {
  /// Bytes of pages, tail and sinks.
  fileprivate var held: Int { codes + tables + scales + tail + sinks }

  /// Values of sealed pages.
  fileprivate var values: Double {
    bitsPerValue > 0 ? Double((codes + tables + scales) * 8) / bitsPerValue : 0
  }
}
