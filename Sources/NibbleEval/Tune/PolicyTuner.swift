public import NibbleGenerate
public import NibbleKV

/// Chooses a codec for every layer, group of KV heads and side, so that predictions change least for given bytes.
///
/// 1. Every codec of the ladder encodes all keys alone, then all values alone, and the error of attention's outputs says which codecs
///    are worth trying on each unit: those on the lower hull of error against bits.
/// 2. Each of these encodes its unit alone, everything else exact, and the KL divergence of the predictions is measured.
/// 3. Divergences are taken to add up, and bits are allotted by Lagrangian search over the lower hulls of loss
///    against bits.
/// 4. Other numbers of sinks and recent tokens are tried at equal bytes, and kept where the divergence falls for certain.
/// 5. The policy is compared with tuned ones for more and for fewer bytes, the best uniform ones and the presets, on text that nothing was
///    chosen by. Those for other bytes show how far divergences do add up, which corrects the prediction.
///
/// After MixQuant and KVTuner (arXiv 2502.04420) in spirit; the search is that of Shoham and Gersho (1988).
public struct PolicyTuner {
  /// What gets a codec of its own.
  public enum Grouping: String, Hashable, Sendable, CaseIterable {
    /// Each KV head of each layer.
    case heads
    /// Each layer.
    case layers
  }

  /// What is to be small.
  public enum Measure: String, Hashable, Sendable, CaseIterable {
    /// KL(exact ‖ compressed) of predictions.
    case logits
    /// The error of attention's outputs, for hosts that have no logits to give.
    case attention
  }

  /// The model.
  public var model: any DecoderModel
  /// What the policy may cost.
  public var budget: TuningBudget
  /// The text that codecs are chosen by, and the text that the outcome is checked on.
  public var text: TuningText
  /// Page length, sinks, recent tokens and exact rows to begin with; its codecs, rules and ages are left aside.
  public var start = Policy.float16
  /// The codecs; `nil` takes ``TuningLadder/standard(isCalibrated:)``.
  public var ladder: TuningLadder?
  /// What gets a codec of its own; `nil` takes heads for up to 64 of them, keys and values counted apart, else layers.
  public var grouping: Grouping?
  /// What is to be small; `nil` takes logits if the model has a vocabulary.
  public var measure: Measure?
  /// Whether other numbers of sinks and recent tokens are tried.
  public var triesWindows = true
  /// Tokens of the context that bytes are counted for, unless the budget names one.
  public var context = 8_192
  /// The share of positions with the same most probable token below which a model should not be compressed that far.
  public var leastSameTop1 = 0.95
  /// Threads of the caches; `nil` takes one for each core.
  public var threads: Int?
  /// The model's calibration, and a host's codecs.
  public var catalogue = CodecCatalogue.standard
  /// A file that keeps what was measured, so that a run that was cut off goes on where it was; `nil` keeps nothing.
  public var recordPath: String?

  /// Creates a tuner with default options.
  public init(model: any DecoderModel, budget: TuningBudget, text: TuningText) {
    self.model = model
    self.budget = budget
    self.text = text
  }

  /// Measures, chooses and checks.
  ///
  /// - Parameter progress: Told after every step.
  /// - Returns: The policy and the evidence for it; equal arguments give an equal outcome on one machine.
  /// - Throws: ``EvaluationError``, `KVError`, `PolicyError`, or an error of the model.
  public func run(progress: @escaping ProgressHandler = { _ in }) throws -> TuningOutcome {
    var run = try TuningRun(self, progress: progress)
    return try run.outcome()
  }
}

/// The two texts of a tuner.
public struct TuningText: Hashable, Sendable {
  /// Token ids that codecs are chosen by, by document.
  public var tuning: [[Int]]
  /// Token ids of other text, that the outcome is checked on.
  public var check: [[Int]]

  /// Creates texts from two that are apart already.
  public init(tuning: [[Int]], check: [[Int]]) {
    self.tuning = tuning
    self.check = check
  }

  /// Parts documents at random: about a third of them, by tokens, to choose by, and the others to check on.
  ///
  /// - Parameters:
  ///   - documents: Token ids by document. A single one is cut in two.
  ///   - tokens: The most tokens to choose by; twice as many at most check.
  ///   - seed: Equal seeds part alike.
  public init(_ documents: [[Int]], tokens: Int, seed: UInt64) {
    var generator = SplitMix64(seed: seed)
    let documents = documents.filter { !$0.isEmpty }.shuffled(using: &generator)
    if documents.count == 1 {
      let cut = documents[0].count / 3
      tuning = [Array(documents[0][..<cut])].prefix(tokens: tokens)
      check = [Array(documents[0][cut...])].prefix(tokens: 2 * tokens)
      return
    }
    let total = documents.reduce(0) { $0 + $1.count }
    var chosen = 0
    var count = 0
    while count < documents.count - 1, count == 0 || chosen < min(tokens, total / 3) {
      chosen += documents[count].count
      count += 1
    }
    tuning = Array(documents[..<count]).prefix(tokens: tokens)
    check = Array(documents[count...]).prefix(tokens: 2 * tokens)
  }
}
