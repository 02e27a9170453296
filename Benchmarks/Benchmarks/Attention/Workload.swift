import NibbleGenerate
import NibbleKV

/// What is measured.
enum Workload {
  static let policies = ["float16", "linear:4", "rotated:4", "trellis:4"]
  static let heads = [Heads(queries: 32, keys: 8), Heads(queries: 8, keys: 8)]

  static var combinations: [(String, Heads)] {
    policies.flatMap { policy in heads.map { (policy, $0) } }
  }

  /// Random numbers of about a standard normal distribution, the same in every run.
  static func rows(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in
      (0..<12).reduce(-6) { sum, _ in sum + Float.random(in: 0..<1, using: &generator) }
    }
  }
}

/// Query and KV heads.
struct Heads: CustomStringConvertible {
  var queries: Int
  var keys: Int

  var description: String { "\(queries):\(keys)" }
}

/// One layer of a sequence, with rows to append and queries.
struct Layer: Sendable {
  private static let headDim = 128
  private static let mostTokens = 512
  private let heads: Heads
  private let sequence: KVSequence
  private let keys: [Float]
  private let values: [Float]
  private let queries: [Float]

  init(_ policy: String, _ heads: Heads) throws {
    self.heads = heads
    let shape = ModelShape(
      layers: 1,
      queryHeads: heads.queries,
      kvHeads: heads.keys,
      headDim: Self.headDim
    )
    sequence = try KVCache(model: shape, policy: Policy(argument: policy), threads: 1)
      .makeSequence()
    let length = Self.mostTokens * Self.headDim
    keys = Workload.rows(length * heads.keys, seed: 1)
    values = Workload.rows(length * heads.keys, seed: 2)
    queries = Workload.rows(length * heads.queries, seed: 3)
  }

  private init(_ other: Layer, sequence: KVSequence) {
    heads = other.heads
    keys = other.keys
    values = other.values
    queries = other.queries
    self.sequence = sequence
  }

  /// A layer that begins where this one is.
  func fork() -> Layer { Layer(self, sequence: sequence.fork()) }

  /// Appends tokens, and attends with them.
  func step(tokens: Int) throws {
    try append(tokens: tokens)
    try attend(tokens: tokens)
  }

  func append(tokens: Int) throws {
    for first in stride(from: 0, to: tokens, by: Self.mostTokens) {
      let count = min(Self.mostTokens, tokens - first) * heads.keys * Self.headDim
      try sequence.append(
        keys: keys.span.extracting(0..<count),
        values: values.span.extracting(0..<count),
        layer: 0
      )
    }
  }

  func attend(tokens: Int = 1) throws {
    let count = tokens * heads.queries * Self.headDim
    var output = [Float](repeating: 0, count: count)
    var target = output.mutableSpan
    try sequence.attend(queries: queries.span.extracting(0..<count), layer: 0, into: &target)
  }
}

/// One page of one head's keys.
struct Page: Sendable {
  private let strip: StripCodec
  private let rows: [Float]

  init(_ policy: String) throws {
    let policy = try Policy(argument: policy)
    strip = try CodecCatalogue.standard.strip(
      policy.keys,
      side: .keys,
      headDim: 128,
      pageTokens: policy.pageTokens
    )
    rows = Workload.rows(strip.valueCount, seed: 4)
  }

  func encoded() throws -> [UInt8] { try strip.encode(rows.span) }
}
