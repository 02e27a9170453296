import Foundation
public import NibbleGenerate
public import NibbleKV

/// What `logits` reports; the names of its JSON fields are fixed by Specs/cli.md.
public struct LogitsReport: Encodable, Hashable, Sendable {
  /// The model's name.
  public var model: String
  /// The policy as it was given.
  public var policy: String
  /// The file that was written, as given.
  public var path: String
  /// Tokens that were fed: rows of the file.
  public var positions = 0
  /// Logits of a row.
  public var vocabularySize: Int
  /// Tokens that were generated; the last of them was not fed.
  public var generated: [Int] = []
  /// Tokens in compressed pages at the end.
  public var compressedTokens = 0

  private enum CodingKeys: String, CodingKey {
    case model, policy, path, positions
    case vocabularySize = "vocabulary_size"
    case generated
    case compressedTokens = "compressed_tokens"
  }
}

/// Feeds tokens and the most probable ones after them, and writes the logits of every position: what hosts in other languages are
/// compared with.
public struct LogitsRun: Sendable {
  /// The model.
  public var model: any DecoderModel
  /// What the cache does to the history.
  public var policy: Policy
  /// The tokens to begin with.
  public var tokens: [Int]
  /// Tokens to generate, and the most that are fed in one step.
  public var options: GenerationOptions
  /// Threads of the cache; `nil` takes one for each core.
  public var threads: Int?
  /// What the policy may refer to.
  public var catalogue: CodecCatalogue

  /// Creates a run.
  public init(
    model: any DecoderModel,
    policy: Policy,
    tokens: [Int],
    options: GenerationOptions = GenerationOptions(),
    threads: Int? = nil,
    catalogue: CodecCatalogue = .standard
  ) {
    self.model = model
    self.policy = policy
    self.tokens = tokens
    self.options = options
    self.threads = threads
    self.catalogue = catalogue
  }

  /// Runs the model in the steps of a generation: the prompt in chunks, its last token by itself, then token by token.
  ///
  /// - Parameter path: The file: little-endian float32, `[positions, vocabulary]`.
  /// - Returns: The figures.
  /// - Throws: ``EvaluationError``, `GenerationError`, `KVError`, or an error of the model.
  public func run(path: String) throws -> LogitsReport {
    try options.validate()
    guard let lastToken = tokens.last else { throw GenerationError.emptyPrompt }
    for token in tokens { try check("a token", token, in: 0...model.vocabularySize - 1) }
    let cache = try KVCache(
      model: model.shape,
      policy: policy,
      threads: threads,
      catalogue: catalogue
    )
    let sequence = cache.makeSequence()
    let output = try Self.create(path)
    defer { try? output.close() }
    var report = LogitsReport(
      model: model.name,
      policy: policy.label,
      path: path,
      vocabularySize: model.vocabularySize
    )
    var rest = tokens.dropLast()
    while !rest.isEmpty {
      let chunk = rest.prefix(options.prefillChunk)
      _ = try step(Array(chunk), sequence, output, &report)
      rest = rest.dropFirst(chunk.count)
    }
    var sampler = try Sampler(options: .greedy)
    var next = lastToken
    while report.generated.count < options.maximumTokens {
      next = try sampler.sample(step([next], sequence, output, &report))
      report.generated.append(next)
    }
    report.compressedTokens = sequence.statistics.compressedTokens
    return report
  }

  private func step(
    _ tokens: [Int],
    _ sequence: KVSequence,
    _ output: FileHandle,
    _ report: inout LogitsReport
  ) throws -> [Float] {
    let logits = try model.forward(tokens: tokens, store: sequence, logits: .all)
    do {
      try output.write(contentsOf: logits.withUnsafeBytes { Data($0) })
    } catch {
      throw EvaluationError.unwritable(path: report.path, reason: error.localizedDescription)
    }
    report.positions += tokens.count
    return logits
  }

  private static func create(_ path: String) throws(EvaluationError) -> FileHandle {
    guard FileManager.default.createFile(atPath: path, contents: nil),
      let output = FileHandle(forWritingAtPath: path)
    else { throw .unwritable(path: path, reason: "it cannot be made") }
    return output
  }
}
