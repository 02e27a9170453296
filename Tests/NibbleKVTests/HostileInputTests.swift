import NibbleKV
import Testing

/// Input that no careful host would give: typed errors, no traps, nothing lost.
@Suite struct HostileInputTests {
  static let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 64)

  @Test(arguments: [0, -16, Int.min, 17, 1 << 40], CodecDescription.ScaleAxis.allCases)
  func impossibleGroups(group: Int, axis: CodecDescription.ScaleAxis) {
    var codec = CodecDescription.linear(4)
    codec.group = group
    codec.axis = axis
    #expect(throws: CodecError.self) {
      try StripCodec(codec, side: .keys, headDim: 64, pageTokens: 64)
    }
    #expect(throws: KVError.self) {
      try KVCache(model: Self.shape, policy: Policy(keys: codec, values: .float16))
    }
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity], ["float32", "rotated:4"])
  func queriesThatAreNotFinite(value: Float, policy: String) throws {
    let filled = try Filled(shape: Self.shape, policy: Policy(argument: policy), tokens: 200)
    var random = SeededRandom(1)
    var queries = random.normals(2 * 4 * 64)
    let good = try filled.attend(queries)
    queries[4 * 64 + 3 * 64 + 7] = value
    let wrong = queries
    let error = #expect(throws: KVError.self) { try filled.attend(wrong) }
    guard case .valueOutOfRange(let what, _, let token, let head, let channel, _, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(what == "query")
    #expect([token, head, channel] == [1, 3, 7])
    queries[4 * 64 + 3 * 64 + 7] = 0
    let fine = try filled.attend(queries)
    #expect(!fine.contains { !$0.isFinite })
    #expect(!good.contains { !$0.isFinite })
  }

  @Test func scoresBeyondFloats() throws {
    let cache = try KVCache(model: Self.shape, policy: .exact)
    let sequence = cache.makeSequence()
    let rows = [Float](repeating: 1e30, count: 2 * 64)
    try sequence.append(keys: rows.span, values: rows.span, layer: 0)
    let queries = [Float](repeating: 1e30, count: 4 * 64)
    var output = [Float](repeating: 0, count: 4 * 64)
    #expect(throws: KVError.self) {
      var span = output.mutableSpan
      try sequence.attend(queries: queries.span, layer: 0, into: &span)
    }
    #expect(sequence.tokenCount == 1)
  }

  @Test func theWidestWindowIsNoWindow() throws {
    let filled = try Filled(shape: Self.shape, policy: Policy(argument: "rotated:4"), tokens: 300)
    var random = SeededRandom(2)
    let queries = random.normals(50 * 4 * 64)
    let all = try filled.attend(queries)
    #expect(try filled.attend(queries, options: AttentionOptions(window: .max)) == all)
    #expect(try filled.attend(queries, options: AttentionOptions(window: 300)) == all)
  }

  @Test func theWidestLayerRangeIsWritten() throws {
    let text = """
      version: 1
      keys: int8
      values: int8
      rules:
        - layers: 0-9223372036854775807
          keys: float16
      """
    let policy = try Policy(yaml: text)
    #expect(policy.yaml.contains("9223372036854775807"))
    #expect(throws: KVError.self) { try KVCache(model: Self.shape, policy: policy) }
  }
}
