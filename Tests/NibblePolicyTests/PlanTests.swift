import NibbleCodec
import NibblePolicy
import Testing

@Suite struct PlanTests {
  @Test func everyStripHasOneEntryInOrder() throws {
    let plan = try Plan(policy: .small, shape: .sample)
    var index = 0
    for layer in 0..<8 {
      for side in KVSide.allCases {
        for head in 0..<4 {
          let entry = plan.entries[index]
          #expect(entry.layer == layer && entry.side == side && entry.head == head)
          #expect(entry == plan.entry(layer: layer, head: head, side: side))
          index += 1
        }
      }
    }
    #expect(plan.entries.count == index)
  }

  @Test func laterRulesWinAndSidesAreIndependent() throws {
    let yaml = """
      version: 1
      keys: rotated:4
      values: linear:4
      rules:
        - layers: 0-3
          keys: int8
          values: rotated:3
        - layers: [3, last 1]
          kv_heads: [0, 2-3]
          keys: rotated:3
      """
    let policy = try Policy(yaml: yaml, file: "folder/policy.yaml")
    let plan = try Plan(policy: policy, shape: .sample)
    func check(
      _ layer: Int,
      _ head: Int,
      _ side: KVSide,
      _ codec: CodecDescription,
      _ reason: String
    ) {
      let entry = plan.entry(layer: layer, head: head, side: side)
      #expect(entry.codec == codec, "layer \(layer), head \(head), \(side)")
      #expect(entry.reason == reason, "layer \(layer), head \(head), \(side)")
    }
    check(0, 0, .keys, .int8, "rule 1 (policy.yaml:5)")
    check(0, 0, .values, .rotated(3), "rule 1 (policy.yaml:5)")
    check(3, 0, .keys, .rotated(3), "rule 2 (policy.yaml:8)")
    check(3, 1, .keys, .int8, "rule 1 (policy.yaml:5)")
    check(3, 3, .keys, .rotated(3), "rule 2 (policy.yaml:8)")
    check(3, 0, .values, .rotated(3), "rule 1 (policy.yaml:5)")
    check(7, 2, .keys, .rotated(3), "rule 2 (policy.yaml:8)")
    check(7, 1, .keys, .rotated(4), "default keys")
    check(5, 2, .values, .linear(4), "default values")
  }

  @Test(arguments: [
    (IndexSelection.all, [0, 1, 2, 3, 4, 5, 6, 7]), (.index(3), [3]), (.range(0...1), [0, 1]),
    (.first(2), [0, 1]), (.last(2), [6, 7]), (.last(8), [0, 1, 2, 3, 4, 5, 6, 7]),
  ])
  func selectionsNameTheirLayers(selection: IndexSelection, layers: [Int]) throws {
    let rule = Policy.Rule(layers: [selection], keys: .int8)
    let plan = try Plan(
      policy: Policy(keys: .rotated(4), values: .rotated(4), rules: [rule]),
      shape: .sample
    )
    let changed = (0..<8).filter { plan.entry(layer: $0, head: 0, side: .keys).codec == .int8 }
    #expect(changed == layers)
  }

  @Test func bitsCountAllThatIsStored() throws {
    let plan = try Plan(policy: .balanced, shape: .sample)
    for entry in plan.entries {
      let layer = plan.layers[entry.layer]
      let strip = entry.side == .keys ? layer.keys[entry.head] : layer.values[entry.head]
      #expect(entry.bytesPerToken == Double(strip.bytes.total) / 64)
      #expect(entry.bitsPerValue == Double(strip.bytes.total * 8) / Double(64 * 64))
      #expect(entry.bitsPerValue > Double(entry.codec.bits))
    }
  }

  @Test(arguments: [
    (0, 16), (1, 16), (16, 16), (17, 32), (48, 48), (49, 64), (65, 128), (1024, 1024),
  ])
  func sinksHaveAPageThatHoldsThem(sinks: Int, tokens: Int) throws {
    let plan = try Plan(
      policy: Policy(keys: .int8, values: .int8, sinks: sinks),
      shape: .sample
    )
    #expect(plan.sinkPageTokens == tokens)
    // Half precision: four heads of 64 channels, keys and values.
    #expect(plan.layers[0].sinkLayout.byteCount == tokens * 4 * 64 * 2 * 2)
  }

  @Test func layersWithAWindowInsideTheTailStayExact() throws {
    let shape = ModelShape(
      layers: 4,
      queryHeads: 4,
      kvHeads: 2,
      headDim: 64,
      slidingWindows: [nil, 128, 129, nil]
    )
    let plan = try Plan(policy: Policy(keys: .int8, values: .rotated(4)), shape: shape)
    for side in KVSide.allCases {
      let entry = plan.entry(layer: 1, head: 0, side: side)
      #expect(entry.codec == .float16)
      #expect(entry.reason == "window 128 within the tail")
    }
    #expect(plan.entry(layer: 2, head: 0, side: .keys).codec == .int8)
    #expect(
      plan.notes.contains { $0.hasPrefix("layer 1 stays float16: its sliding window of 128") }
    )
    #expect(!plan.notes.contains { $0.hasPrefix("layer 2") })
  }

  @Test func explanationMergesEqualLines() throws {
    let plan = try Plan(policy: .balanced, shape: .sample)
    #expect(plan.groups.count == 3)
    #expect(plan.groups[0].layers == [0...0, 7...7])
    #expect(plan.groups[0].heads == [0...3])
    #expect(plan.groups[1].layers == [0...7])
    #expect(plan.groups[1].side == .values)
    #expect(plan.groups[2].layers == [1...6])
    let bytes = plan.groups.reduce(0) { $0 + $1.bytesPerToken }
    #expect(bytes == plan.entries.reduce(0) { $0 + $1.bytesPerToken })

    let lines = plan.explanation.split(separator: "\n")
    #expect(lines[0].hasPrefix("policy balanced: page_tokens 64, sinks 4, recent 64"))
    #expect(lines[1] == "model: 8 layers, 8 query heads, 4 KV heads, head dimension 64")
    #expect(lines[3].hasPrefix("0,7     all       keys    int8"))
    #expect(lines[3].hasSuffix("preset balanced, rule 1"))
    #expect(lines[5].hasPrefix("1-6     all       keys    trellis:4 mean=removed"))
    #expect(lines.contains("not compressed:"))
    #expect(!plan.explanation.contains("skip"))
  }

  @Test func explanationSaysWhatIsLeftOut() throws {
    let policy = Policy(keys: .int8, values: .int8, skipBelow: 0.01)
    let text = try Plan(policy: policy, shape: .sample).explanation
    #expect(text.contains("exact_rows float16, skip_below 0.01\n"))
    #expect(text.contains("\nskipping: at most 0.01 of a query's softmax weight is left out; "))
  }

  @Test func headsThatDifferHaveLinesOfTheirOwn() throws {
    let rule = Policy.Rule(layers: [.index(2)], kvHeads: [.index(0), .index(2)], values: .int8)
    let plan = try Plan(
      policy: Policy(keys: .rotated(4), values: .rotated(4), rules: [rule]),
      shape: .sample
    )
    let values = plan.groups.filter { $0.side == .values }
    #expect(values.map(\.layers) == [[0...1, 3...7], [2...2], [2...2]])
    #expect(values.map(\.heads) == [[0...3], [0...0, 2...2], [1...1, 3...3]])
    #expect(values[1].reason == "rule 1")
    #expect(plan.explanation.contains("0,2"))
  }

  struct WrongRule: CustomTestStringConvertible {
    var rule: String
    var column: Int
    var message: String
    var hint: String?
    var testDescription: String { rule }
  }

  @Test(arguments: [
    WrongRule(rule: "layers: 8", column: 13, message: "attention layer 8 does not", hint: "7"),
    WrongRule(rule: "layers: 6-9", column: 13, message: "layer 9 does not exist", hint: "6-7"),
    WrongRule(rule: "layers: [0, last 9]", column: 17, message: "'last 9' asks", hint: "last 8"),
    WrongRule(rule: "layers: first 99", column: 13, message: "the model has 8", hint: "first 8"),
    WrongRule(rule: "kv_heads: [0, 4]", column: 19, message: "KV head 4 does not", hint: "3"),
  ])
  func selectionsBeyondTheModelAreFoundInTheFile(wrong: WrongRule) throws {
    let yaml = "version: 1\nkeys: int8\nvalues: int8\nrules:\n  - \(wrong.rule)\n    keys: int8\n"
    let policy = try Policy(yaml: yaml, file: "p.yaml")
    let error = try #require(
      policyError { () throws(PolicyError) in try Plan(policy: policy, shape: .sample) }
    )
    #expect(error.file == "p.yaml")
    #expect(error.line == 5)
    #expect(error.column == wrong.column)
    #expect(error.message.hasPrefix("rule 1: "))
    #expect(error.message.contains(wrong.message), "\(error)")
    #expect(error.hint == wrong.hint)
  }

  @Test func aCodecThatDoesNotFitTheModelIsFoundInTheFile() throws {
    let yaml = """
      version: 1
      keys: int8
      values: int8
      rules:
        - layers: 1
          values: { codec: linear, group: 48 }
      """
    let policy = try Policy(yaml: yaml, file: "p.yaml")
    let error = try #require(
      policyError { () throws(PolicyError) in try Plan(policy: policy, shape: .sample) }
    )
    #expect(error.line == 6)
    #expect(error.column == 13)
    #expect(error.message.hasPrefix("rule 1, values: "))
  }

  @Test(arguments: [
    Policy(keys: .int8, values: .int8, pageTokens: 80),
    Policy(keys: .int8, values: .int8, sinks: -1),
    Policy(keys: .int8, values: .int8, skipBelow: 0.5),
    Policy(keys: .int8, values: .int8, skipBelow: .nan),
    Policy(keys: .int8, values: .int8, recent: 1 << 40),
    Policy(keys: .int8, values: .int8, exact: .int8),
    Policy(name: "", keys: .int8, values: .int8),
    Policy(keys: .int8, values: .int8, rules: [Policy.Rule()]),
    Policy(keys: .int8, values: .int8, rules: [Policy.Rule(layers: [], keys: .int8)]),
    Policy(
      keys: .int8,
      values: .int8,
      rules: [Policy.Rule(layers: [.all, .index(1)], keys: .int8)]
    ),
    Policy(
      keys: .int8,
      values: .int8,
      rules: [Policy.Rule(kvHeads: [.first(2), .index(1)], keys: .int8)]
    ),
    Policy(keys: .int8, values: .int8, rules: [Policy.Rule(layers: [.first(0)], keys: .int8)]),
    Policy(keys: .int8, values: .int8, rules: [Policy.Rule(layers: [.index(-1)], keys: .int8)]),
  ])
  func policiesMadeInCodeAreCheckedToo(policy: Policy) {
    #expect(throws: PolicyError.self) { try Plan(policy: policy, shape: .sample) }
  }

  @Test(arguments: [
    ModelShape(layers: 0, queryHeads: 8, kvHeads: 8, headDim: 64),
    ModelShape(layers: -1, queryHeads: 8, kvHeads: 8, headDim: 64),
    ModelShape(layers: .max, queryHeads: 8, kvHeads: 8, headDim: 64),
    ModelShape(layers: 2, queryHeads: 8, kvHeads: 3, headDim: 64),
    ModelShape(layers: 2, queryHeads: 8, kvHeads: 0, headDim: 64),
    ModelShape(layers: 2, queryHeads: 1 << 40, kvHeads: 8, headDim: 64),
    ModelShape(layers: 2, queryHeads: 8, kvHeads: 8, headDim: 0),
    ModelShape(layers: 2, queryHeads: 8, kvHeads: 8, headDim: 60),
    ModelShape(layers: 2, queryHeads: 8, kvHeads: 8, headDim: 520),
    ModelShape(layers: 2, queryHeads: 8, kvHeads: 8, headDim: 64, slidingWindows: [nil]),
    ModelShape(layers: 1, queryHeads: 8, kvHeads: 8, headDim: 64, slidingWindows: [0]),
  ])
  func wrongShapesAreRefused(shape: ModelShape) {
    #expect(throws: PolicyError.self) { try shape.validate() }
    #expect(throws: PolicyError.self) { try Plan(policy: .balanced, shape: shape) }
  }
}

@Suite struct HostCodecTests {
  /// Stores nothing but a byte per row.
  private struct Rows: CustomCodec {
    let name = "rowbytes"
    func byteCount(tokens: Int, headDim: Int) -> Int { tokens }
    func encode(
      rows: Span<Float>,
      tokens: Int,
      headDim: Int,
      into bytes: inout MutableSpan<UInt8>
    ) throws {}
    func decode(
      bytes: Span<UInt8>,
      tokens: Int,
      headDim: Int,
      into rows: inout MutableSpan<Float>
    ) throws {}
  }

  @Test func policiesNameACodecOfTheHost() throws {
    var catalogue = CodecCatalogue()
    try catalogue.register(Rows())
    let yaml = "version: 1\nkeys: rowbytes\nvalues: { codec: rowbytes, mean: removed }\n"
    let policy = try Policy(yaml: yaml, catalogue: catalogue)
    #expect(policy.keys == CodecDescription(.custom("rowbytes")))
    #expect(try Policy(yaml: policy.yaml, catalogue: catalogue) == policy)
    #expect(try Policy(argument: "rowbytes", catalogue: catalogue).keys == policy.keys)
    let plan = try Plan(policy: policy, shape: .sample, catalogue: catalogue)
    #expect(plan.entry(layer: 0, head: 0, side: .keys).bytesPerToken == 1)

    let near = policyError { () throws(PolicyError) in
      try Policy(yaml: "version: 1\nkeys: rowbyte\nvalues: int8\n", catalogue: catalogue)
    }
    #expect(near?.hint == "rowbytes")
    #expect(throws: PolicyError.self) { try Plan(policy: policy, shape: .sample) }
  }
}

@Suite struct AgePlanTests {
  private static let head = "version: 1\nkeys: int8\nvalues: linear:4\nages:\n"
  private static let shape = ModelShape(layers: 2, queryHeads: 2, kvHeads: 2, headDim: 64)

  /// Ages in the wrong order, younger than `recent`, too old, too many.
  @Test(
    arguments: [
      (
        "  - {beyond: 200, keys: rotated:4}\n  - {beyond: 200, keys: rotated:2}\n",
        "expected 201 to"
      ),
      ("  - {beyond: 63, keys: rotated:4}\n", "since 'recent' is 64"),
      ("  - {beyond: 16777217, keys: rotated:4}\n", "16777216"),
      ("  - {beyond: 100, keys: rotated:9}\n", "9"),
    ]
  )
  func wrongAgesAreRefused(ages: String, message: String) throws {
    let error = #expect(throws: PolicyError.self) {
      try Plan(policy: Policy(yaml: Self.head + ages, file: "p.yaml"), shape: Self.shape)
    }
    #expect(error?.message.contains(message) == true, "\(String(describing: error))")
    #expect(error?.line == (ages.contains("rotated:2") ? 6 : 5))
  }

  @Test func agesOnlyEverShrink() throws {
    let yaml =
      Self.head
      + "  - {beyond: 100, keys: rotated:4, values: int8}\n  - {beyond: 200, keys: linear:8}\n"
      + "  - {beyond: 300, keys: trellis:2, values: trellis:2}\n"
    let plan = try Plan(policy: Policy(yaml: yaml), shape: Self.shape)
    for layer in plan.layers {
      #expect(layer.rungs.map(\.beyond) == [0, 100, 300])
      let sizes = layer.rungs.map(\.pageLayout.byteCount)
      #expect(sizes == sizes.sorted(by: >) && Set(sizes).count == 3)
      #expect(layer.rungs[1].values[0].description.shortName == "linear:4")
      #expect(layer.rungs[2].keys[1].description.shortName == "trellis:2")
    }
  }

  @Test func valuesOfOneHeadRotateAlike() throws {
    let yaml =
      "version: 1\nkeys: int8\nvalues: rotated:4\nages:\n  - {beyond: 99, values: trellis:2}\n"
    #expect(throws: Never.self) { try Plan(policy: Policy(yaml: yaml), shape: Self.shape) }
  }
}
