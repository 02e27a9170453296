import NibbleKV
import Testing

/// Wrong input: a typed error that names the value and the limit, and nothing changed.
@Suite struct ErrorTests {
  static let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16)

  enum Store: CaseIterable { case compressed, reference }

  private func store(_ kind: Store, tokens: Int = 50) throws -> any KeyValueStore {
    let store: any KeyValueStore =
      switch kind {
      case .compressed: try KVCache(model: Self.shape, policy: .small, threads: 1).makeSequence()
      case .reference: ReferenceCache(shape: Self.shape)
      }
    let rows = TokenRows(tokens, shape: Self.shape, seed: 1)
    for layer in 0..<2 { try rows.append(0..<tokens, to: store, layer: layer) }
    return store
  }

  /// The description of the error that `body` throws.
  private func message(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return error is KVError ? "\(error)" : nil
    }
  }

  private func append(
    _ keys: [Float],
    _ values: [Float],
    layer: Int = 0,
    to store: any KeyValueStore
  ) throws {
    try store.append(keys: keys.span, values: values.span, layer: layer)
  }

  @Test(arguments: Store.allCases)
  func lengthsAndLayers(kind: Store) throws {
    let store = try store(kind)
    let row = [Float](repeating: 1, count: 32)
    for layer in [-1, 2, Int.max, Int.min] {
      let expected = "layer \(layer) does not exist; the model has layers 0 to 1"
      #expect(message { try append(row, row, layer: layer, to: store) } == expected)
      #expect(
        message { _ = try store.attended(randomQueries(shape: Self.shape), layer: layer) }
          == expected
      )
    }
    #expect(
      message { try append(row, row + row, to: store) }
        == "32 key values but 64 value values; both must have the same shape"
    )
    let short = Array(row.dropLast())
    #expect(
      message { try append(short, short, to: store) }
        == "keys: 31 values where a multiple of 32 are needed"
    )
    #expect(
      message { _ = try store.attended([1, 2, 3]) }
        == "queries: 3 values where a multiple of 64 are needed"
    )
    #expect(
      message {
        var output = [Float](repeating: 0, count: 63)
        var span = output.mutableSpan
        let queries = randomQueries(shape: Self.shape)
        try store.attend(queries: queries.span, layer: 0, options: .standard, into: &span)
      } == "output: 63 values where 64 are needed"
    )
    #expect(
      message { _ = try store.attended(randomQueries(51, shape: Self.shape)) }
        == "queries of 51 tokens, but the layer holds 50"
    )
    #expect(try store.attended(randomQueries(50, shape: Self.shape)).allSatisfy { $0.isFinite })
    #expect(store.tokenCount == 50)
  }

  @Test(arguments: Store.allCases)
  func options(kind: Store) throws {
    let store = try store(kind)
    let queries = randomQueries(shape: Self.shape)
    for (options, name) in [
      (AttentionOptions(window: 0), "window cannot be 0"),
      (AttentionOptions(window: -3), "window cannot be -3"),
      (AttentionOptions(softCap: 0), "soft cap cannot be 0.0"),
      (AttentionOptions(softCap: -1), "soft cap cannot be -1.0"),
      (AttentionOptions(softCap: .nan), "soft cap cannot be nan"),
      (AttentionOptions(softCap: .infinity), "soft cap cannot be inf"),
      (AttentionOptions(scale: 0), "scale cannot be 0.0"),
      (AttentionOptions(scale: -0.5), "scale cannot be -0.5"),
      (AttentionOptions(scale: .nan), "scale cannot be nan"),
      (AttentionOptions(scale: .infinity), "scale cannot be inf"),
    ] {
      let text = message { _ = try store.attended(queries, options: options) }
      #expect(text?.hasPrefix(name) == true, "\(text ?? "no error")")
    }
    // A window of any length will do.
    let wide = try store.attended(queries, options: AttentionOptions(window: .max))
    #expect(try wide == store.attended(queries))
  }

  @Test(arguments: Store.allCases, [Float.nan, .infinity, -.infinity])
  func rowsThatAreNotFinite(kind: Store, value: Float) throws {
    let store = try store(kind)
    let queries = randomQueries(shape: Self.shape)
    let output = try store.attended(queries, layer: 1)
    let good = [Float](repeating: 1, count: 32 * 100)
    // New token 70, head 1, channel 9.
    var bad = good
    bad[70 * 32 + 16 + 9] = value
    let place = "of layer 1, new token 70, head 1, channel 9 is \(value)"
    let key = message { try append(bad, good, layer: 1, to: store) }
    #expect(key?.hasPrefix("key \(place)") == true, "\(key ?? "no error")")
    let other = message { try append(good, bad, layer: 1, to: store) }
    #expect(other?.hasPrefix("value \(place)") == true, "\(other ?? "no error")")
    #expect(store.tokenCount == 50)
    #expect(try store.attended(queries, layer: 1) == output)
  }

  @Test func valuesThatTheCodecsCannotHold() throws {
    for (policy, fits, fails) in [
      ("int8", Float(65504), Float(70000)), ("int8@exact_rows=float32", 70000, 2e35),
      ("float32", 3e38, .infinity), ("bfloat16", 3e38, 3.4e38),
      // Exact rows hold more than the pages that they are sealed to.
      ("float16@exact_rows=float32", 65504, 70000),
      ("k=float16+v=int8@exact_rows=float32", 65504, 70000),
    ] {
      let cache = try KVCache(model: Self.shape, policy: Policy(argument: policy), threads: 1)
      let sequence = cache.makeSequence()
      let zeros = [Float](repeating: 0, count: 32 * 200)
      var rows = zeros
      rows[40] = -fits
      try append(rows, rows, to: sequence)
      rows[40] = fails
      #expect(throws: KVError.self, "\(policy)") { try append(rows, zeros, to: sequence) }
      #expect(throws: KVError.self, "\(policy)") { try append(zeros, rows, to: sequence) }
      // Sealed, cut and attended to, the largest value stays finite.
      let one = [Float](repeating: 0, count: 32)
      try append(one, one, to: sequence)
      let decoded = try sequence.decodedRows(layer: 0)
      #expect((decoded.keys + decoded.values).allSatisfy { $0.isFinite }, "\(policy)")
      #expect(abs(decoded.keys[40] + fits) <= 0.01 * fits, "\(policy)")
    }
  }

  @Test func cachesThatCannotBe() throws {
    for threads in [0, -1, 257] {
      #expect(
        message { _ = try KVCache(model: Self.shape, policy: .small, threads: threads) }
          == "threads cannot be \(threads); expected 1 to 256"
      )
    }
    let odd = ModelShape(layers: 1, queryHeads: 3, kvHeads: 2, headDim: 16)
    let wide = ModelShape(layers: 1, queryHeads: 2, kvHeads: 2, headDim: 1024)
    for shape in [odd, wide] {
      let error = #expect(throws: KVError.self) { try KVCache(model: shape, policy: .small) }
      guard case .policy = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
    let rule = Policy.Rule(layers: [.last(3)], keys: .int8)
    let policy = Policy(keys: .linear(4), values: .linear(4), rules: [rule])
    #expect(message { _ = try KVCache(model: Self.shape, policy: policy) }?.contains("3") == true)
  }

  @Test func decodedRowsOfNoLayer() throws {
    let sequence = try KVCache(model: Self.shape, policy: .small, threads: 1).makeSequence()
    #expect(
      message { _ = try sequence.decodedRows(layer: 2) }
        == "layer 2 does not exist; the model has layers 0 to 1"
    )
    #expect(try sequence.decodedRows(layer: 0).keys.isEmpty)
  }

  @Test func messagesHoldTheNumbers() {
    #expect("\(KVError.outOfMemory(bytes: 77))" == "the system refused 77 bytes")
    #expect("\(KVError.codec(.unsupportedHeadDimension(9)))".contains("9"))
    let budget = KVError.budgetExceeded(neededBytes: 11, heldBytes: 22, limitBytes: 33)
    for number in ["11", "22", "33"] { #expect("\(budget)".contains(number)) }
  }
}
