import Foundation
import MLX
import MLXLMCommon
import NibbleKV
import NibbleMLX
import Testing

@Suite("Caches with pages of NibbleKV")
struct PackedKVCacheTests {
  let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 32)

  func sequence(
    _ policy: String,
    budget: ByteBudget = .unlimited
  ) throws -> KVSequence {
    try NibbleKV.KVCache(
      model: shape,
      policy: Policy(argument: policy),
      budget: budget,
      threads: 1
    ).makeSequence()
  }

  /// Feeds the same rows to caches and their counterparts, layer by layer; what the last layers hand back.
  @discardableResult
  func feed(
    _ tokens: Int,
    to caches: [any MLXLMCommon.KVCache],
    and others: [any MLXLMCommon.KVCache],
    seed: UInt64,
    dtype: DType = .float16
  ) -> [(packed: [Float], plain: [Float])] {
    var generator = SeededGenerator(seed: seed)
    return zip(caches, others).map { cache, other in
      let keys = generator.array([1, 2, tokens, 32], dtype: dtype)
      let values = generator.array([1, 2, tokens, 32], dtype: dtype)
      return (
        numbers(cache.update(keys: keys, values: values)),
        numbers(other.update(keys: keys, values: values))
      )
    }
  }

  @Test("Lossless policies hand back what came in", arguments: ["exact", "float16"])
  func lossless(policy: String) throws {
    let caches = try PackedKVCache.layers(of: sequence(policy))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    for (step, tokens) in [70, 1, 1, 200, 1].enumerated() {
      for pair in feed(tokens, to: caches, and: plain, seed: UInt64(step)) {
        #expect(pair.packed == pair.plain)
      }
    }
    #expect(caches.map(\.offset) == [273, 273])
    #expect(caches.allSatisfy { $0.failure == nil })
    #expect(caches[1].state.map(\.shape) == [[1, 2, 273, 32], [1, 2, 273, 32]])
    #expect(caches[1].state.map(\.dtype) == [.float16, .float16])
    #expect(
      numbers((caches[0].state[0], caches[0].state[1]))
        == plain[0].state.flatMap { $0.asArray(Float.self) }
    )
  }

  @Test("Rows are compressed, and are those that the sequence holds")
  func compressed() throws {
    let sequence = try sequence("int8@recent=16@page_tokens=16")
    let caches = try PackedKVCache.layers(of: sequence)
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(199, to: caches, and: plain, seed: 1, dtype: .float32)
    // Pages that a step leaves due are sealed with the next one.
    let pairs = feed(1, to: caches, and: plain, seed: 2, dtype: .float32)
    #expect(sequence.statistics.compressedTokens > 150)
    for (layer, pair) in pairs.enumerated() {
      let error = zip(pair.packed, pair.plain).map { abs($0 - $1) }.max() ?? 0
      // Half a step of eight bits over numbers of at most 1, and the rounding of scales.
      #expect(error > 0 && error < 1.2 / 254)
      let held = try sequence.decodedRows(layer: layer)
      let keys = MLXArray(held.keys, [1, 200, 2, 32]).transposed(0, 2, 1, 3)
      #expect(keys.asArray(Float.self) == caches[layer].state[0].asArray(Float.self))
    }
  }

  @Test("Trimming all layers, and going on")
  func trimming() throws {
    let caches = try PackedKVCache.layers(of: sequence("float16@recent=16@page_tokens=16"))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(100, to: caches, and: plain, seed: 1)
    for (round, count) in [7, 30, 0].enumerated() {
      #expect(caches.map { $0.trim(count) } == [count, count])
      plain.forEach { $0.trim(count) }
      for pair in feed(3, to: caches, and: plain, seed: UInt64(round + 2)) {
        #expect(pair.packed == pair.plain)
      }
    }
    #expect(caches[0].trim(1000) == 72)
    #expect(caches[0].state.isEmpty)
    #expect(caches.allSatisfy { $0.failure == nil })
  }

  @Test("A layer that is trimmed alone goes on uncompressed, and none loses rows")
  func trimmedAlone() throws {
    let caches = try PackedKVCache.layers(of: sequence("float16"))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(40, to: caches, and: plain, seed: 1)
    caches[1].trim(10)
    plain[1].trim(10)
    for seed in UInt64(2)...3 {
      for pair in feed(5, to: caches, and: plain, seed: seed) {
        #expect(pair.packed == pair.plain)
      }
    }
    // The other one stays compressed, and need not wait for it.
    for cache in caches + plain as [any MLXLMCommon.KVCache] { cache.trim(25) }
    for pair in feed(5, to: caches, and: plain, seed: 4) { #expect(pair.packed == pair.plain) }
    #expect(caches[0].failure == nil)
    let failure = try #require(caches[1].failure as? PackedCacheError)
    #expect(failure.description.contains("trimmed to 30 tokens, but layer 0 has 45"))
  }

  @Test(
    "What NibbleKV refuses is told, and the layer goes on",
    arguments: ["batch", "nan", "heads"]
  )
  func refused(kind: String) throws {
    let caches = try PackedKVCache.layers(of: sequence("float16"))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    if kind == "nan" { feed(40, to: caches, and: plain, seed: 1) }
    var generator = SeededGenerator(seed: 2)
    var rows = generator.array(
      kind == "batch" ? [2, 2, 3, 32] : kind == "heads" ? [1, 3, 3, 32] : [1, 2, 3, 32]
    )
    if kind == "nan" {
      rows = MLXArray([Float.nan] + rows.asArray(Float.self).dropFirst(), rows.shape)
        .asType(.float16)
    }
    let packed = caches[0].update(keys: rows, values: rows)
    let expected = plain[0].update(keys: rows, values: rows)
    #expect(packed.0.shape == expected.0.shape)
    #expect(numbers(packed).map(\.bitPattern) == numbers(expected).map(\.bitPattern))
    #expect(caches[0].offset == plain[0].offset)
    let failure = try #require(caches[0].failure as? PackedCacheError)
    let words = [
      "batch": "[2, 2, 3, 32]", "nan": "key of layer 0, new token 0", "heads": "[1, 3, 3, 32]",
    ]
    #expect(failure.description.contains(words[kind] ?? "?"))
    #expect(caches[1].failure == nil)
  }

  /// Sets one number of the next rows of a layer to one that is refused.
  func refuse(_ cache: PackedKVCache, and other: KVCacheSimple) {
    let rows = MLXArray([.nan] + [Float](repeating: 0, count: 63), [1, 2, 1, 32]).asType(.float16)
    _ = (cache.update(keys: rows, values: rows), other.update(keys: rows, values: rows))
    cache.trim(1)
    other.trim(1)
  }

  @Test("Layers are trimmed behind where another one left", arguments: [0, 40])
  func trimmingAfterOneHasLeft(tokens: Int) throws {
    let three = ModelShape(layers: 3, queryHeads: 4, kvHeads: 2, headDim: 32)
    let policy = try Policy(argument: "float16@recent=16@page_tokens=16")
    let sequence = try NibbleKV.KVCache(model: three, policy: policy).makeSequence()
    var caches = try PackedKVCache.layers(of: sequence)
    var plain = caches.map { _ in KVCacheSimple() }
    if tokens > 0 { feed(tokens, to: caches, and: plain, seed: 1) }
    refuse(caches[1], and: plain[1])
    feed(60 - tokens, to: caches, and: plain, seed: 2)
    // Behind where it left, through what was left out, up to there, and before it.
    for (round, count) in [10, 0, 3, 12, 20, 7, 60].enumerated() {
      for cache in caches + plain as [any MLXLMCommon.KVCache] { cache.trim(count) }
      if round == 4 {
        caches = caches.compactMap { $0.copy() as? PackedKVCache }
        plain = plain.compactMap { $0.copy() as? KVCacheSimple }
      }
      for pair in feed(5, to: caches, and: plain, seed: UInt64(round + 3)) {
        #expect(pair.packed == pair.plain)
      }
      #expect(caches.map(\.offset) == plain.map(\.offset))
      #expect(caches.map { $0.failure == nil } == [true, false, true])
    }
    #expect(sequence.tokenCount <= tokens)
  }

  @Test("A layer that left comes back with its state, and the sequence has no trimmed rows")
  func comingBack() throws {
    let sequence = try sequence("float16")
    let caches = try PackedKVCache.layers(of: sequence)
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    refuse(caches[1], and: plain[1])
    feed(60, to: caches, and: plain, seed: 2)
    for cache in caches + plain as [any MLXLMCommon.KVCache] { cache.trim(10) }
    feed(5, to: caches, and: plain, seed: 3)
    // The sequence still has what was trimmed of layer 0, so layer 1 waits for that one's state.
    for layer in [1, 0] {
      caches[layer].state = plain[layer].state
      #expect(caches[1].failure != nil || layer == 0)
      #expect(sequence.tokenCount == (layer == 0 ? 55 : 0))
    }
    #expect(caches.allSatisfy { $0.failure == nil })
    for pair in feed(4, to: caches, and: plain, seed: 4) { #expect(pair.packed == pair.plain) }
    let rows = try sequence.decodedRows(layer: 0).keys
    let held = MLXArray(rows, [1, 59, 2, 32]).transposed(0, 2, 1, 3).asArray(Float.self)
    #expect(held == plain[0].state[0].asArray(Float.self))
  }

  @Test("An emptied layer does not move the sequence's end behind rows that are trimmed")
  func emptiedAfterLeaving() throws {
    let sequence = try sequence("float16")
    let caches = try PackedKVCache.layers(of: sequence)
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    refuse(caches[1], and: plain[1])
    caches[0].state = []
    feed(20, to: [caches[0]], and: [plain[0]], seed: 1)
    caches[0].state = plain[0].state
    caches[1].state = []
    caches[0].trim(10)
    plain[0].trim(10)
    feed(1, to: [caches[0]], and: [plain[0]], seed: 2)
    for pair in feed(30, to: caches, and: plain, seed: 3) { #expect(pair.packed == pair.plain) }
    #expect(caches[0].failure == nil)
    #expect(caches[1].failure != nil && sequence.tokenCount == 0)
  }

  @Test("No rows are lost or mixed up, whatever is done in which order", arguments: UInt64(0)..<12)
  func anyOrder(seed: UInt64) throws {
    let three = ModelShape(layers: 3, queryHeads: 4, kvHeads: 2, headDim: 32)
    let policy = try Policy(argument: "float16@recent=16@page_tokens=16")
    var sequence: KVSequence? = try NibbleKV.KVCache(model: three, policy: policy).makeSequence()
    var caches = try PackedKVCache.layers(of: #require(sequence))
    var plain = caches.map { _ in KVCacheSimple() }
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<40 {
      let compressed = caches.map { $0.failure == nil }
      let layer = Int.random(in: 0..<3, using: &generator)
      let count = Int.random(in: 0..<24, using: &generator)
      let choice = Int.random(in: 0..<10, using: &generator)
      switch choice {
      case 0: refuse(caches[layer], and: plain[layer])
      case 1:
        let source = caches.map { _ in KVCacheSimple() }
        feed(count + 1, to: source, and: source.map { _ in KVCacheSimple() }, seed: seed)
        for layer in [0, 1, 2].shuffled(using: &generator) {
          caches[layer].state = source[layer].state
          plain[layer].state = source[layer].state
        }
      case 2:
        for layer in 0..<3 {
          caches[layer].state = []
          plain[layer] = KVCacheSimple()
        }
      case 3:
        sequence = nil
        caches = caches.compactMap { $0.copy() as? PackedKVCache }
        plain = plain.compactMap { $0.copy() as? KVCacheSimple }
      default:
        for cache in caches + plain as [any MLXLMCommon.KVCache] { cache.trim(count) }
      }
      for pair in feed(count / 2 + 1, to: caches, and: plain, seed: generator.next()) {
        #expect(pair.packed == pair.plain)
      }
      #expect(caches.map(\.offset) == plain.map(\.offset))
      if choice > 2 { #expect(caches.map { $0.failure == nil } == compressed) }
      if choice == 1 || choice == 2 { #expect(caches.allSatisfy { $0.failure == nil }) }
      guard let sequence else { continue }
      // What a session would have.
      let tokens = sequence.tokenCount
      if caches.allSatisfy({ $0.failure == nil }) { #expect(tokens == plain[0].offset) }
      for layer in 0..<3 where caches[layer].failure == nil {
        #expect(tokens <= plain[layer].offset)
        let rows = try sequence.decodedRows(layer: layer).keys.prefix(tokens * 64)
        let keys = plain[layer].state[0].transposed(0, 2, 1, 3).asArray(Float.self)
        #expect(rows == keys.prefix(tokens * 64))
      }
    }
  }

  @Test("An exhausted budget is told, and no row is lost")
  func exhaustedBudget() throws {
    let caches = try PackedKVCache.layers(of: sequence("float16", budget: .mebibytes(3)))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    var step: UInt64 = 0
    while caches[1].failure == nil, step < 40 {
      step += 1
      let isLast = feed(1024, to: caches, and: plain, seed: step)
      #expect(isLast.allSatisfy { $0.packed == $0.plain })
    }
    let failure = try #require(caches[1].failure as? PackedCacheError)
    #expect(failure.description.contains("budget"))
  }

  @Test("Copies go on by themselves, and together")
  func copies() throws {
    let caches = try PackedKVCache.layers(of: sequence("float16@recent=16@page_tokens=16"))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(60, to: caches, and: plain, seed: 1)
    let copies = caches.map { $0.copy() }
    let plainCopies = plain.map { $0.copy() }
    #expect(copies.map(\.offset) == [60, 60])

    for pair in feed(20, to: caches, and: plain, seed: 2) { #expect(pair.packed == pair.plain) }
    for _ in 0..<2 {
      copies.forEach { $0.trim(5) }
      plainCopies.forEach { $0.trim(5) }
      for pair in feed(30, to: copies, and: plainCopies, seed: 3) {
        #expect(pair.packed == pair.plain)
      }
    }
    #expect(copies.allSatisfy { ($0 as? PackedKVCache)?.failure == nil })
  }

  @Test("Copies are of what a layer holds when it is copied")
  func copiesAfterAChange() throws {
    let caches = try PackedKVCache.layers(of: sequence("float16"))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(60, to: caches, and: plain, seed: 1)
    let early = caches[0].copy()
    for cache in caches + plain as [any MLXLMCommon.KVCache] { cache.trim(5) }
    feed(5, to: caches, and: plain, seed: 2)
    let late = caches[1].copy()
    #expect(
      early.state.map { $0.asArray(Float.self) } != caches[0].state.map { $0.asArray(Float.self) }
    )
    #expect(
      late.state.map { $0.asArray(Float.self) } == plain[1].state.map { $0.asArray(Float.self) }
    )
  }

  @Test("State that is set is held")
  func settingState() throws {
    let source = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(50, to: source, and: source.map { _ in KVCacheSimple() }, seed: 1)
    let caches = try PackedKVCache.layers(of: sequence("float16"))
    for (cache, other) in zip(caches, source) { cache.state = other.state }
    #expect(caches.map(\.offset) == [50, 50])
    for pair in feed(4, to: caches, and: source, seed: 2) { #expect(pair.packed == pair.plain) }

    caches[0].state = []
    #expect(caches[0].offset == 0 && caches[0].state.isEmpty)
    #expect(caches[1].offset == 54)
  }

  @Test(
    "State that is set replaces rows of all layers",
    arguments: [[0, 1], [1, 0]],
    [false, true]
  )
  func replacingState(order: [Int], hasLeft: Bool) throws {
    let sequence = try sequence("float16")
    let caches = try PackedKVCache.layers(of: sequence)
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(40, to: caches, and: plain, seed: 1)
    if hasLeft { refuse(caches[1], and: plain[1]) }
    for tokens in [50, 30] {
      let source = shape.slidingWindows.map { _ in KVCacheSimple() }
      feed(tokens, to: source, and: source.map { _ in KVCacheSimple() }, seed: UInt64(tokens))
      for layer in order { caches[layer].state = source[layer].state }
      #expect(caches.allSatisfy { $0.failure == nil })
      #expect(caches.map(\.offset) == [tokens, tokens])
      #expect(sequence.tokenCount == tokens)
      for pair in feed(4, to: caches, and: source, seed: 2) { #expect(pair.packed == pair.plain) }
      for cache in caches + source as [any MLXLMCommon.KVCache] { cache.trim(6) }
      for pair in feed(4, to: caches, and: source, seed: 3) { #expect(pair.packed == pair.plain) }
      #expect(caches.allSatisfy { $0.failure == nil })
    }
  }

  @Test("A state that is refused keeps no other out", arguments: [0, 1], [false, true])
  func refusedState(layer: Int, hasRows: Bool) throws {
    let caches = try PackedKVCache.layers(of: sequence("float16"))
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    if hasRows { feed(40, to: caches, and: plain, seed: 1) }
    let source = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(50, to: source, and: source.map { _ in KVCacheSimple() }, seed: 2)
    let rows = MLXArray([Float](repeating: .infinity, count: 3200), [1, 2, 50, 32])
    for (index, cache) in caches.enumerated() {
      cache.state = index == layer ? [rows, rows] : source[index].state
    }
    let failure = try #require(caches[layer].failure as? PackedCacheError)
    #expect(failure.description.contains("layer \(layer)"))
    #expect(caches[1 - layer].failure == nil)
    #expect(caches[layer].state[0].asArray(Float.self) == rows.asArray(Float.self))
    for (cache, other) in zip(caches, source) { cache.state = other.state }
    #expect(caches.allSatisfy { $0.failure == nil })
    for pair in feed(4, to: caches, and: source, seed: 3) { #expect(pair.packed == pair.plain) }
  }

  @Test("A layer whose state is set alone says so, until the other is emptied")
  func replacingStateOfOne() throws {
    let sequence = try sequence("float16")
    let caches = try PackedKVCache.layers(of: sequence)
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(40, to: caches, and: plain, seed: 1)
    let source = KVCacheSimple()
    feed(50, to: [source], and: [KVCacheSimple()], seed: 2)
    caches[0].state = source.state
    plain[0].state = source.state
    for pair in feed(4, to: caches, and: plain, seed: 3) { #expect(pair.packed == pair.plain) }
    let failure = try #require(caches[0].failure as? PackedCacheError)
    #expect(failure.description.contains("trimmed to 0 tokens, but layer 1 has 40"))
    #expect(caches[1].failure == nil)

    let copies = caches.compactMap { $0.copy() as? PackedKVCache }
    #expect(copies[0].failure != nil)
    for caches in [caches, copies] {
      caches[1].state = []
      #expect(caches.allSatisfy { $0.failure == nil })
      #expect(caches.map(\.offset) == [54, 0])
      #expect(
        caches[0].state.map { $0.asArray(Float.self) }
          == plain[0].state.map {
            $0.asArray(Float.self)
          }
      )
    }
    #expect(try sequence.decodedRows(layer: 0).keys.count == 54 * 64)
  }

  @Test("Masks of other caches, and windows")
  func masks() throws {
    let cache = try PackedKVCache.layers(of: sequence("float16"))[0]
    let plain = KVCacheSimple()
    feed(10, to: [cache], and: [plain], seed: 1)
    guard case .none = cache.makeMask(n: 1, windowSize: nil, returnArray: false),
      case .causal = cache.makeMask(n: 4, windowSize: nil, returnArray: false),
      case .array(let mask) = cache.makeMask(n: 4, windowSize: nil, returnArray: true),
      case .array(let window) = cache.makeMask(n: 1, windowSize: 3, returnArray: false)
    else {
      Issue.record("another kind of mask")
      return
    }
    #expect(mask.shape == [4, 14])
    #expect(mask.asArray(Bool.self) == createCausalMask(n: 4, offset: 10).asArray(Bool.self))
    #expect(window.asArray(Bool.self) == (0..<11).map { $0 >= 8 })
  }

  @Test("A sequence with tokens goes on, one with windows is refused")
  func existingSequences() throws {
    let file = FileManager.default.temporaryDirectory.appending(path: "\(UUID()).session").path
    defer { try? FileManager.default.removeItem(atPath: file) }
    let sequence = try sequence("rotated:4@recent=16@page_tokens=16")
    let caches = try PackedKVCache.layers(of: sequence)
    let plain = shape.slidingWindows.map { _ in KVCacheSimple() }
    feed(90, to: caches, and: plain, seed: 1)
    try sequence.save(to: file)

    let restored = try PackedKVCache.layers(of: sequence.cache.restoreSequence(from: file))
    #expect(restored.map(\.offset) == [90, 90])
    for pair in feed(8, to: restored, and: caches, seed: 2) { #expect(pair.packed == pair.plain) }

    let windows = ModelShape(
      layers: 2,
      queryHeads: 4,
      kvHeads: 2,
      headDim: 32,
      slidingWindows: [nil, 64]
    )
    let cache = try NibbleKV.KVCache(model: windows, policy: .float16)
    #expect { try PackedKVCache.layers(of: cache.makeSequence()) } throws: { error in
      guard case PackedCacheError.slidingWindow(layer: 1, tokens: 64) = error else { return false }
      return true
    }
  }
}
