import MLX
import MLXLMCommon
import NibbleKV
import NibbleMLX
import Testing

@Suite("Native caches for a policy")
struct NativeCachesTests {
  struct Case: CustomTestStringConvertible {
    let policy: String
    let format: NativeFormat
    let outcome: NativeLayer.Outcome
    /// Words of the only reasons, in order.
    let reasons: [String]
    var headDim = 128
    var usesTurboQuant = true
    var testDescription: String { "\(policy), \(headDim)" }

    init(
      _ policy: String,
      _ format: NativeFormat,
      _ outcome: NativeLayer.Outcome,
      _ reasons: [String] = [],
      headDim: Int = 128,
      usesTurboQuant: Bool = true
    ) {
      self.policy = policy
      self.format = format
      self.outcome = outcome
      self.reasons = reasons
      self.headDim = headDim
      self.usesTurboQuant = usesTurboQuant
    }
  }

  static let cases: [Case] = [
    // Rows as they are.
    Case("float16", .fullPrecision, .applied),
    Case("exact", .fullPrecision, .approximated, ["float32 rows"]),
    // Evenly spaced levels.
    Case("linear:4", .affine(bits: 4, groupSize: 128), .applied),
    Case("int8", .affine(bits: 8, groupSize: 128), .applied),
    Case("linear:3@group=32", .affine(bits: 3, groupSize: 32), .applied),
    Case("linear:4", .affine(bits: 4, groupSize: 32), .applied, headDim: 32),
    Case(
      "linear:4",
      .affine(bits: 4, groupSize: 128),
      .approximated,
      ["keys have a scale for each 128 channels", "values have a scale for each 128"],
      headDim: 256
    ),
    Case(
      "linear:4@outliers=1@k.axis=channel",
      .affine(bits: 4, groupSize: 128),
      .approximated,
      ["keys have a scale for each 128", "keys lose outliers", "values lose outliers"]
    ),
    Case(
      "linear:4",
      .fullPrecision,
      .skipped,
      ["multiple of 32, not 80"],
      headDim: 80
    ),
    // Rotated ones.
    Case(
      "rotated:3",
      .turboQuant(keyBits: 3, valueBits: 3, keyGroupSize: 128),
      .approximated,
      ["keys in rotated:3 become TurboQuant of 3 bits", "values in rotated:3 become TurboQuant"]
    ),
    Case(
      "rotated:3",
      .affine(bits: 3, groupSize: 128),
      .approximated,
      ["keys in rotated:3 become affine codes of 3 bits", "values in rotated:3 become affine"],
      usesTurboQuant: false
    ),
    Case(
      "rotated:4",
      .turboQuant(keyBits: 4, valueBits: 4, keyGroupSize: 64),
      .approximated,
      ["keys in rotated:4", "values in rotated:4"],
      headDim: 80
    ),
    // Two sides that differ.
    Case(
      "k=int8+v=linear:4",
      .turboQuant(keyBits: 8, valueBits: 4, keyGroupSize: 128),
      .approximated,
      ["values in linear:4 become TurboQuant of 4 bits"]
    ),
    Case(
      "k=float16+v=rotated:2",
      .turboQuant(keyBits: 0, valueBits: 2, keyGroupSize: 128),
      .approximated,
      ["values in rotated:2 become TurboQuant of 2 bits"]
    ),
    Case(
      "k=int8+v=linear:4",
      .affine(bits: 8, groupSize: 128),
      .approximated,
      ["values get 8 bits instead of 4"],
      usesTurboQuant: false
    ),
    Case(
      "k=linear:4+v=int8",
      .affine(bits: 8, groupSize: 128),
      .approximated,
      ["keys get 8 bits instead of 4"]
    ),
    Case("k=linear:4+v=float16", .fullPrecision, .skipped, ["rows as they are beside codes"]),
    Case("k=int8+v=linear:4", .fullPrecision, .skipped, ["multiple of 32, not 80"], headDim: 80),
    // Codes that no native cache has.
    Case(
      "trellis:3",
      .affine(bits: 3, groupSize: 128),
      .approximated,
      ["keys in trellis:3 become affine codes of 3 bits", "values in trellis:3 become affine"]
    ),
    Case(
      "trellis:1",
      .affine(bits: 2, groupSize: 128),
      .approximated,
      ["keys in trellis:1 become affine codes of 2 bits", "values in trellis:1 become affine"]
    ),
    Case(
      "k=trellis:4+v=bcq:2@mean=removed",
      .turboQuant(keyBits: 4, valueBits: 2, keyGroupSize: 128),
      .approximated,
      [
        "keys in trellis:4 become TurboQuant of 4", "keys lose mean removal",
        "values in bcq:2 become TurboQuant of 2", "values lose mean removal",
      ]
    ),
    Case(
      "clustered:4@rotation=hadamard",
      .affine(bits: 4, groupSize: 128),
      .approximated,
      [
        "keys in clustered:4 become affine codes of 4", "keys lose the rotation",
        "values in clustered:4 become affine codes of 4", "values lose the rotation",
      ]
    ),
  ]

  @Test("The nearest cache, and what differs", arguments: cases)
  func nearest(_ given: Case) throws {
    let native = try NativeCaches(
      policy: Policy(argument: given.policy),
      shape: ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: given.headDim),
      usesTurboQuant: given.usesTurboQuant
    )
    let layer = try #require(native.layers.first)
    #expect(layer.format == given.format)
    #expect(layer.outcome == given.outcome)
    #expect(layer.reasons.count == given.reasons.count, "\(layer.reasons)")
    for (reason, words) in zip(layer.reasons, given.reasons) {
      #expect(reason.contains(words))
    }
  }

  @Test("Caches are what the report says")
  func madeCaches() throws {
    let policy = try Policy(argument: "k=int8+v=rotated:3")
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
    var native = try NativeCaches(policy: policy, shape: shape)
    let turbo = try #require(native.caches[1] as? TurboQuantKVCache)
    #expect((turbo.keyBits, turbo.valueBits, turbo.keyGroupSize) == (8, 3, 64))

    native = try NativeCaches(policy: Policy(argument: "linear:3@group=32"), shape: shape)
    let affine = try #require(native.caches[0] as? QuantizedKVCache)
    #expect((affine.bits, affine.groupSize, affine.mode) == (3, 32, .affine))
  }

  @Test("Layers with windows and other caches stay what the model made them")
  func otherCaches() throws {
    let given: [any MLXLMCommon.KVCache] = [
      KVCacheSimple(), MambaCache(), RotatingKVCache(maxSize: 512), ChunkedKVCache(chunkSize: 64),
      KVCacheSimple(),
    ]
    let native = try NativeCaches(
      policy: .balanced,
      shape: ModelShape(layers: 4, queryHeads: 4, kvHeads: 2, headDim: 64),
      modelCaches: given
    )
    #expect(native.caches.count == 5)
    for index in 1...3 {
      #expect(native.caches[index] as AnyObject === given[index] as AnyObject)
    }
    // The rule for the first and the last layer counts attention layers.
    #expect(native.layers.map(\.cacheIndex) == [0, 2, 3, 4])
    let turbo = NativeFormat.turboQuant(keyBits: 8, valueBits: 4, keyGroupSize: 64)
    #expect(native.layers[0].format == turbo)
    #expect(native.layers[3].format == turbo)
    #expect(native.layers[1].format == .rotating(maxSize: 512))
    #expect(native.layers[2].format == .other(className: "ChunkedKVCache"))
    #expect(native.layers.map(\.outcome) == [.approximated, .skipped, .skipped, .approximated])
    #expect(native.description.contains("layer 1, trellis:4 mean=removed: RotatingKVCache"))
  }

  @Test("Without caches of a model, the shape's windows make them")
  func windowsOfShape() throws {
    let native = try NativeCaches(
      policy: .float16,
      shape: ModelShape(
        layers: 2,
        queryHeads: 4,
        kvHeads: 2,
        headDim: 64,
        slidingWindows: [nil, 256]
      )
    )
    #expect(native.caches[0] is KVCacheSimple)
    #expect(native.caches[1].maxSize == 256)
    #expect(native.layers.map(\.outcome) == [.applied, .applied])
    #expect(native.notes.isEmpty)
  }

  @Test("Where KV heads differ, the most bits count")
  func headsThatDiffer() throws {
    let rule = Policy.Rule(layers: [.all], kvHeads: [.index(1)], keys: .linear(8))
    let native = try NativeCaches(
      policy: Policy(keys: .linear(4), values: .linear(8), rules: [rule]),
      shape: ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 64)
    )
    let layer = native.layers[0]
    #expect(layer.format == .affine(bits: 8, groupSize: 64))
    #expect(layer.outcome == .approximated)
    #expect(layer.reasons.first?.contains("KV heads share a cache") == true)
    #expect(layer.reasons.count == 1)
  }

  @Test("What no native cache does is said once")
  func notes() throws {
    let policy = Policy(
      keys: .linear(8),
      values: .linear(8),
      sinks: 4,
      recent: 32,
      skipBelow: 0.001,
      ages: [Policy.Age(beyond: 1024, keys: .linear(4), values: .linear(4))]
    )
    let shape = ModelShape(layers: 3, queryHeads: 4, kvHeads: 2, headDim: 64)
    let notes = try NativeCaches(policy: policy, shape: shape).notes
    for words in ["first 4 and the newest 32", "as they age", "skip_below"] {
      #expect(notes.filter { $0.contains(words) }.count == 1)
    }
    let bare = Policy(keys: .linear(8), values: .linear(8), sinks: 0, recent: 0)
    #expect(try NativeCaches(policy: bare, shape: shape).notes.isEmpty)
  }

  @Test("Errors name the values")
  func refused() throws {
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
    let used = KVCacheSimple()
    used.state = [zeros([1, 2, 5, 64]), zeros([1, 2, 5, 64])]
    #expect(throws: NativeCacheError.cacheInUse(index: 1, tokens: 5)) {
      try NativeCaches(policy: .small, shape: shape, modelCaches: [KVCacheSimple(), used])
    }
    #expect(throws: NativeCacheError.wrongLayerCount(caches: 1, layers: 2)) {
      try NativeCaches(policy: .small, shape: shape, modelCaches: [KVCacheSimple(), MambaCache()])
    }
    let rule = Policy.Rule(layers: [.index(7)], keys: .int8)
    let error = #expect(throws: NativeCacheError.self) {
      try NativeCaches(
        policy: Policy(keys: .int8, values: .int8, rules: [rule]),
        shape: shape
      )
    }
    #expect(error?.description.contains("7") == true)
  }
}
