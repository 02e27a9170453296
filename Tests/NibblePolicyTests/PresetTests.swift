import NibbleCodec
import NibblePolicy
import Testing

@Suite struct PresetTests {
  @Test func everyPresetIsListedUnderItsName() {
    #expect(Policy.presetNames == ["exact", "float16", "conservative", "balanced", "small"])
  }

  @Test func exactKeepsEveryRowInFloat32() {
    #expect(Policy.exact.keys == .float32)
    #expect(Policy.exact.values == .float32)
    #expect(Policy.exact.exact == .float32)
    #expect(Policy.exact.rules.isEmpty)
  }

  @Test func conservativeHasKeysInEightBitsAndValuesInFour() {
    #expect(Policy.conservative.keys == .int8)
    #expect(Policy.conservative.values == .trellis(4).centred)
  }

  @Test(arguments: [Policy.conservative, .balanced, .small])
  func compressedPresetsShareTheirExactWindows(policy: Policy) {
    #expect(policy.sinks == 4)
    #expect(policy.recent == 64)
    #expect(policy.pageTokens == 64)
    #expect(policy.exact == .float16)
  }

  @Test(arguments: Policy.presets, [8, 64, 80, 128, 256])
  func everyPresetFitsEveryModel(policy: Policy, headDim: Int) throws {
    for layers in [1, 2, 32] {
      let shape = ModelShape(layers: layers, queryHeads: 4, kvHeads: 2, headDim: headDim)
      let plan = try Plan(policy: policy, shape: shape)
      #expect(plan.entries.count == layers * 2 * 2)
    }
  }

  @Test func presetsGetSmallerInTheirOrder() throws {
    let bits = try Policy.presets.map { policy in
      try Plan(policy: policy, shape: .sample).bitsPerValue
    }
    #expect(bits == bits.sorted(by: >))
    #expect(bits[0] == 32)
    #expect(bits[1] == 16)
  }

  @Test func balancedKeepsTheKeysOfBothEndsInEightBits() throws {
    let plan = try Plan(policy: .balanced, shape: .sample)
    for layer in 0..<8 {
      let isEnd = layer == 0 || layer == 7
      let keys = plan.entry(layer: layer, head: 1, side: .keys)
      #expect(keys.codec == (isEnd ? .int8 : .trellis(4).centred))
      #expect(keys.reason == (isEnd ? "preset balanced, rule 1" : "preset balanced"))
      let values = plan.entry(layer: layer, head: 1, side: .values)
      #expect(values.codec == .trellis(4).centred)
      #expect(values.reason == "preset balanced")
    }
  }

  @Test(arguments: [(8, 64), (8, 256), (16, 32), (48, 16)])
  func presetsTakeRotatedWhereATrellisHasNoRoom(headDim: Int, pageTokens: Int) throws {
    let (policy, shape) = Self.small(headDim: headDim, pageTokens: pageTokens)
    let plan = try Plan(policy: policy, shape: shape)
    #expect(plan.entry(layer: 0, head: 0, side: .keys).codec == .rotated(4).centred)
    #expect(plan.entry(layer: 1, head: 0, side: .keys).codec == .rotated(3).centred)
    #expect(plan.entry(layer: 1, head: 0, side: .values).reason == "preset small")
    #expect(plan.notes.contains { $0.contains("has no room for a trellis") })
    // The same policy from a file, as sessions keep it.
    let read = try Plan(policy: Policy(yaml: policy.yaml), shape: shape)
    #expect(read.entries.map(\.codec) == plan.entries.map(\.codec))
    #expect(throws: PolicyError.self) {
      var aging = policy
      aging.ages = [Policy.Age(beyond: 1_024, keys: .rotated(2).centred)]
      _ = try Plan(policy: aging, shape: shape)
    }
    #expect(throws: PolicyError.self) {
      try Plan(
        policy: Policy(keys: .trellis(3), values: .trellis(3), pageTokens: pageTokens),
        shape: shape
      )
    }
    let exact = try Plan(policy: .exact, shape: shape)
    #expect(!exact.notes.contains { $0.contains("trellis") })
  }

  @Test(arguments: [(16, 64), (16, 256), (64, 16)])
  func presetsTakeATrellisWhereItFits(headDim: Int, pageTokens: Int) throws {
    let (policy, shape) = Self.small(headDim: headDim, pageTokens: pageTokens)
    let plan = try Plan(policy: policy, shape: shape)
    #expect(plan.entry(layer: 1, head: 0, side: .keys).codec == .trellis(3).centred)
    #expect(!plan.notes.contains { $0.contains("trellis") })
  }

  private static func small(headDim: Int, pageTokens: Int) -> (Policy, ModelShape) {
    var policy = Policy.small
    policy.pageTokens = pageTokens
    return (policy, ModelShape(layers: 3, queryHeads: 2, kvHeads: 1, headDim: headDim))
  }
}
