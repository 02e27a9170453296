import NibbleGenerate
import Testing

@Suite("Sampling")
struct SamplerTests {
  private static let logits: [Float] = [0, 2, 1, 2, -1, 0.5]

  /// How often each token is drawn.
  private func counts(
    _ options: SamplingOptions,
    logits: [Float] = logits,
    draws: Int = 20_000
  ) throws -> [Int] {
    var sampler = try Sampler(options: options)
    var counts = [Int](repeating: 0, count: logits.count)
    for _ in 0..<draws { counts[try sampler.sample(logits)] += 1 }
    return counts
  }

  @Test("Greedy takes the best, the lowest id among equals")
  func greedy() throws {
    #expect(try counts(.greedy, draws: 5) == [0, 5, 0, 0, 0, 0])
    #expect(try counts(SamplingOptions(topK: 1), draws: 5) == [0, 5, 0, 0, 0, 0])
  }

  @Test("Frequencies follow the softmax", arguments: [0.5, 1, 2] as [Float])
  func frequencies(temperature: Float) throws {
    let counts = try counts(SamplingOptions(temperature: temperature, seed: 3))
    let weights = Self.logits.map { weight($0 / temperature) }
    let total = weights.reduce(0, +)
    for (count, weight) in zip(counts, weights) {
      #expect(abs(Double(count) / 20_000 - weight / total) < 0.012)
    }
  }

  /// e to the power of x, by its series.
  private func weight(_ x: Float) -> Double {
    var term = 1.0
    var sum = 1.0
    for n in 1..<60 {
      term *= Double(x) / Double(n)
      sum += term
    }
    return sum
  }

  @Test("top-k keeps the best by rank, ties by id")
  func topK() throws {
    let two = try counts(SamplingOptions(topK: 2))
    #expect(two.indices.filter { two[$0] > 0 } == [1, 3])
    let tied = try counts(SamplingOptions(topK: 2), logits: [1, 1, 1, 1], draws: 500)
    #expect(tied.indices.filter { tied[$0] > 0 } == [0, 1])
    let all = try counts(SamplingOptions(topK: 99))
    #expect(all.allSatisfy { $0 > 0 })
  }

  @Test("top-p keeps the fewest that reach the sum")
  func topP() throws {
    // Probabilities 0.5, 0.25, 0.125, 0.125.
    let logits: [Float] = [2, 1, 0, 0].map { $0 * 0.693_147_2 }
    for (topP, kept) in [(0.4, [0]), (0.6, [0, 1]), (0.8, [0, 1, 2]), (1, [0, 1, 2, 3])] {
      let counts = try counts(SamplingOptions(topP: Float(topP)), logits: logits, draws: 2_000)
      #expect(counts.indices.filter { counts[$0] > 0 } == kept)
    }
  }

  @Test("min-p keeps what is likely enough next to the best")
  func minP() throws {
    let logits: [Float] = [2, 1, 0, 0].map { $0 * 0.693_147_2 }
    for (minP, kept) in [(0.6, [0]), (0.4, [0, 1]), (0.2, [0, 1, 2, 3]), (0, [0, 1, 2, 3])] {
      let counts = try counts(SamplingOptions(minP: Float(minP)), logits: logits, draws: 2_000)
      #expect(counts.indices.filter { counts[$0] > 0 } == kept)
    }
    // After top-k 1 nothing else is left to compare with.
    #expect(try counts(SamplingOptions(topK: 1, minP: 1), draws: 3)[1] == 3)
  }

  @Test("A seed gives the same tokens, another seed others")
  func seeds() throws {
    func sequence(_ seed: UInt64) throws -> [Int] {
      var sampler = try Sampler(options: SamplingOptions(topK: 5, topP: 0.95, seed: seed))
      return try (0..<50).map { _ in try sampler.sample(Self.logits) }
    }
    #expect(try sequence(1) == sequence(1))
    #expect(try sequence(1) != sequence(2))
  }

  @Test("The generator's numbers are those of the published algorithm")
  func generator() {
    var generator = SplitMix64(seed: 1_234_567)
    #expect(
      (0..<3).map { _ in generator.next() }
        == [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
    )
  }

  @Test("Extreme temperatures and logits neither trap nor leave the vocabulary")
  func extremes() throws {
    let wide: [Float] = [-.greatestFiniteMagnitude, .greatestFiniteMagnitude, 0]
    for temperature: Float in [.leastNonzeroMagnitude, 1, .greatestFiniteMagnitude] {
      let counts = try counts(
        SamplingOptions(temperature: temperature, topP: 0.9, minP: 0.01),
        logits: wide,
        draws: 50
      )
      #expect(counts.reduce(0, +) == 50)
    }
  }

  @Test("Options and logits that make no sense are typed errors")
  func refusals() {
    let options = [
      SamplingOptions(temperature: -1), SamplingOptions(temperature: .infinity),
      SamplingOptions(topK: 0), SamplingOptions(topP: 0), SamplingOptions(topP: 1.1),
      SamplingOptions(topP: .nan), SamplingOptions(minP: -0.1), SamplingOptions(minP: 2),
    ]
    for options in options {
      #expect(throws: GenerationError.self) { try Sampler(options: options) }
    }
    #expect(throws: GenerationError.nonFiniteLogit(token: 1, value: "nan")) {
      var sampler = try Sampler(options: .greedy)
      return try sampler.sample([0, .nan])
    }
    #expect(throws: GenerationError.self) {
      var sampler = try Sampler(options: .greedy)
      return try sampler.sample([])
    }
  }
}
