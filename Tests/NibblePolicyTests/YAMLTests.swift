import NibbleCodec
import NibblePolicy
import Testing

@Suite struct YAMLTests {
  static let examples = [
    "uniform.yaml", "keys-eight-values-four.yaml", "careful-ends.yaml", "per-channel-keys.yaml",
    "careful-ends.json", "old-pages-fade.yaml",
  ]

  @Test(arguments: examples)
  func examplesSurviveARoundTrip(name: String) throws {
    let policy = try Policy(contentsOf: exampleFolder + name)
    #expect(try Policy(yaml: policy.yaml) == policy)
    // Sixteen layers hold every layer that the examples name.
    let shape = ModelShape(layers: 16, queryHeads: 8, kvHeads: 4, headDim: 64)
    #expect(try Plan(policy: policy, shape: shape).entries.count == 128)
  }

  @Test(arguments: Policy.presets)
  func presetsSurviveARoundTrip(policy: Policy) throws {
    #expect(try Policy(yaml: policy.yaml) == policy)
  }

  @Test func jsonSaysTheSameAsYAML() throws {
    let json = try Policy(contentsOf: exampleFolder + "careful-ends.json")
    #expect(try Policy(contentsOf: exampleFolder + "careful-ends.yaml") == json)
  }

  @Test func everyKeyIsRead() throws {
    let policy = try Policy(contentsOf: exampleFolder + "per-channel-keys.yaml")
    var keys = CodecDescription.linear(4)
    keys.axis = .channel
    keys.group = 32
    var values = CodecDescription.linear(4)
    values.zeroPoint = false
    values.rotation = .hadamard
    let expected = Policy(
      name: "per-channel-keys",
      keys: keys,
      values: values,
      pageTokens: 128,
      rules: [Policy.Rule(layers: [.first(1)], keys: .bfloat16, values: .bfloat16)]
    )
    #expect(policy == expected)
  }

  @Test func whatIsLeftOutHasDefaults() throws {
    let policy = try Policy(yaml: "version: 1\nkeys: int8\nvalues: linear\n")
    #expect(policy == Policy(keys: .int8, values: .linear(4)))
    #expect(policy.pageTokens == 64)
    #expect(policy.sinks == 4)
    #expect(policy.recent == 64)
    #expect(policy.exact == .float16)
  }

  @Test(arguments: [
    "plain", "two words", "quote \" and \\ back", "null", "12", "Überlänge 模型", "a: b", "# no", "🙂",
    "ends:", " spaced ", "{x}", "*a", "'", "true",
  ])
  func namesSurviveARoundTrip(name: String) throws {
    let policy = Policy(name: name, keys: .int8, values: .int8)
    #expect(try Policy(yaml: policy.yaml).name == name)
  }

  @Test(arguments: 0..<64)
  func randomPoliciesSurviveARoundTrip(seed: Int) throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let policy = randomPolicy(&generator)
    #expect(try Policy(yaml: policy.yaml) == policy, "\(policy.yaml)")
  }

  @Test func windowsLineEndingsAreRead() throws {
    let policy = try Policy(yaml: "version: 1\r\nkeys: int8\r\nvalues: int8\r\n")
    #expect(policy.keys == .int8)
  }

  private func randomPolicy(_ generator: inout SeededGenerator) -> Policy {
    let exact: [CodecDescription] = [.float32, .float16, .bfloat16]
    let pages = [16, 32, 48, 64, 128, 1024]
    return Policy(
      keys: randomCodec(&generator),
      values: randomCodec(&generator),
      exact: exact.randomElement(using: &generator) ?? .float16,
      pageTokens: pages.randomElement(using: &generator) ?? 64,
      sinks: Int.random(in: 0...1024, using: &generator),
      recent: Int.random(in: 0...65_536, using: &generator),
      skipBelow: [0, 0.001, 1e-9, 0.49].randomElement(using: &generator) ?? 0,
      rules: (0..<Int.random(in: 0...4, using: &generator)).map { _ in
        Policy.Rule(
          layers: randomSelections(&generator),
          kvHeads: randomSelections(&generator),
          keys: randomCodec(&generator),
          values: Bool.random(using: &generator) ? randomCodec(&generator) : nil
        )
      }
    )
  }

  /// Selections of one list may not overlap.
  private func randomSelections(_ generator: inout SeededGenerator) -> [IndexSelection] {
    let low = Int.random(in: 0...9, using: &generator)
    let apart: [IndexSelection] = [
      .first(low + 1), .index(low + 1), .range((low + 2)...(low + 5)), .last(low + 1),
    ]
    if Int.random(in: 0...4, using: &generator) == 0 { return [.all] }
    let count = Int.random(in: 1...3, using: &generator)
    return Array(apart.shuffled(using: &generator).prefix(count))
  }

  private func randomCodec(_ generator: inout SeededGenerator) -> CodecDescription {
    let codes: [CodecDescription.Code] = [
      .float32, .float16, .bfloat16, .int8, .linear, .clustered, .rotated,
    ]
    let code = codes.randomElement(using: &generator) ?? .int8
    let bits = CodecDescription.acceptedBits(of: code).randomElement(using: &generator)
    var codec = CodecDescription(code, bits: bits)
    codec.axis = CodecDescription.ScaleAxis.allCases.randomElement(using: &generator) ?? .token
    codec.group = Bool.random(using: &generator) ? 32 : nil
    codec.zeroPoint = Bool.random(using: &generator)
    codec.rotation = Bool.random(using: &generator) ? .hadamard : .none
    codec.removesMean = Bool.random(using: &generator)
    codec.clipsRange = Bool.random(using: &generator)
    codec.balancesScales = Bool.random(using: &generator)
    codec.shapesErrors = Bool.random(using: &generator)
    codec.outlierPercent = [0, 0.5, 1].randomElement(using: &generator) ?? 0
    codec.blocks = Bool.random(using: &generator) ? .tokens : .channels
    return codec
  }
}
