import NibbleKV
import Synchronization
import Testing

/// A host's own codec in the cache.
@Suite struct CustomCodecTests {
  static let shape = ModelShape(layers: 1, queryHeads: 4, kvHeads: 2, headDim: 24)

  private static func catalogue(_ codec: any CustomCodec) throws -> CodecCatalogue {
    var catalogue = CodecCatalogue()
    try catalogue.register(codec)
    return catalogue
  }

  @Test(arguments: [
    "mine", "k=mine+v=linear:4", "k=rotated:4+v=mine", "k=int8+v=mine@mean=removed",
    "mine@mean=removed", "mine@rotation=hadamard", "mine@rotation=hadamard@mean=removed",
    "k=mine+v=rotated:3@mean=removed", "k=clustered:4+v=mine@exact_rows=float32",
  ])
  func attentionEqualsReference(policy: String) throws {
    let catalogue = try Self.catalogue(Coarse())
    for pageTokens in [16, 64, 128] {
      let filled = try Filled(
        shape: Self.shape,
        policy: Policy(
          argument: policy + "@recent=9@sinks=3@page_tokens=\(pageTokens)",
          catalogue: catalogue
        ),
        tokens: 500,
        threads: 2,
        mean: 0.7,
        catalogue: catalogue
      )
      #expect(filled.sequence.statistics.compressedTokens > 0)
      let queries = randomQueries(5, shape: Self.shape)
      for options in [AttentionOptions.standard, AttentionOptions(window: 40, softCap: 5)] {
        let output = try filled.attend(queries, options: options)
        let truth = try filled.reference(queries, options: options)
        // Such pages are attended to as floats; no query is rounded.
        #expect(relativeError(output, truth) < 1e-5, "\(policy), pages of \(pageTokens)")
      }
    }
  }

  /// Keys less their mean change every score of a query alike; values less theirs get it back, as weights sum to one.
  @Test func meanRemovalIsExact() throws {
    let catalogue = try Self.catalogue(Floats())
    let rows = TokenRows(500, shape: Self.shape, seed: 3, mean: 2)
    let queries = randomQueries(20, shape: Self.shape)
    let outputs = try ["float32", "floats@exact_rows=float32@mean=removed"].map { text in
      let policy = try Policy(argument: text, catalogue: catalogue)
      let cache = try KVCache(model: Self.shape, policy: policy, catalogue: catalogue)
      let sequence = cache.makeSequence()
      try rows.append(0..<500, by: 70, to: sequence)
      return try sequence.attended(queries)
    }
    let truth = outputs[0].map(Double.init)
    #expect(outputs[1] != outputs[0], "nothing was removed")
    #expect(relativeError(outputs[1], truth) < 1e-5)
  }

  @Test(arguments: ["k=watched+v=int8", "k=int8+v=watched", "watched@mean=removed"])
  func failuresLoseNothing(text: String) throws {
    let codec = Watched()
    let catalogue = try Self.catalogue(codec)
    let policy = try Policy(argument: text + "@recent=10", catalogue: catalogue)
    let cache = try KVCache(model: Self.shape, policy: policy, threads: 2, catalogue: catalogue)
    let rows = TokenRows(400, shape: Self.shape, seed: 4)
    let queries = randomQueries(shape: Self.shape)
    let sequence = cache.makeSequence()
    let untroubled = cache.makeSequence()
    try rows.append(0..<300, to: sequence)
    try rows.append(0..<300, to: untroubled)
    let output = try sequence.attended(queries)
    let statistics = sequence.statistics

    codec.fails(true)
    for _ in 0..<2 {
      #expect(codecError { try rows.append(300..<350, to: sequence) } == Watched.error)
      #expect(sequence.statistics == statistics)
      #expect(try sequence.attended(queries) == output)
    }
    codec.fails(false)
    try rows.append(300..<350, to: sequence)
    try rows.append(300..<350, to: untroubled)
    let sealed = try untroubled.attended(queries)
    #expect(try sequence.attended(queries) == sealed)
    #expect(sequence.statistics.compressedTokens == 256)

    codec.fails(true)
    #expect(codecError { _ = try sequence.attended(queries) } == Watched.error)
    #expect(codecError { _ = try sequence.decodedRows(layer: 0) } == Watched.error)
    #expect(codecError { try sequence.truncate(to: 100) } == Watched.error)
    #expect(sequence.tokenCount == 350)
    // A cut between pages decodes nothing.
    let fork = sequence.fork()
    try fork.truncate(to: 4 + 64)
    #expect(fork.tokenCount == 68)
    codec.fails(false)
    #expect(try sequence.attended(queries) == sealed)
  }

  private func codecError(_ body: () throws -> Void) -> CodecError? {
    do {
      try body()
    } catch KVError.codec(let error) {
      return error
    } catch {}
    return nil
  }
}

/// Sixteenths, as bytes.
private struct Coarse: CustomCodec {
  let name = "mine"

  func byteCount(tokens: Int, headDim: Int) -> Int { tokens * headDim }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws {
    for index in rows.indices {
      let sixteenths = min(max((rows[index] * 16).rounded(), -128), 127)
      bytes[index] = UInt8(bitPattern: Int8(sixteenths))
    }
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {
    for index in rows.indices { rows[index] = Float(Int8(bitPattern: bytes[index])) / 16 }
  }
}

/// The floats themselves.
private struct Floats: CustomCodec {
  let name = "floats"

  func byteCount(tokens: Int, headDim: Int) -> Int { tokens * headDim * 4 }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws {
    for index in rows.indices {
      let bits = rows[index].bitPattern
      for byte in 0..<4 { bytes[index * 4 + byte] = UInt8(bits >> (8 * byte) & 255) }
    }
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {
    for index in rows.indices {
      let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[index * 4 + $1]) << (8 * $1) }
      rows[index] = Float(bitPattern: bits)
    }
  }
}

/// Counts the strips that it encodes, and fails when told to.
final class Watched: CustomCodec {
  let name = "watched"
  private let isFailing = Atomic(false)
  private let count = Atomic(0)
  private let plain = Coarse()

  struct Failure: Error {}

  static let error = CodecError.custom(name: "watched", message: "Failure()")

  func fails(_ value: Bool) { isFailing.store(value, ordering: .sequentiallyConsistent) }

  /// Strips that were encoded since this was asked last.
  func takeCount() -> Int { count.exchange(0, ordering: .sequentiallyConsistent) }

  private func check() throws {
    if isFailing.load(ordering: .sequentiallyConsistent) { throw Failure() }
  }

  func byteCount(tokens: Int, headDim: Int) -> Int { tokens * headDim }

  func encode(
    rows: Span<Float>,
    tokens: Int,
    headDim: Int,
    into bytes: inout MutableSpan<UInt8>
  ) throws {
    try check()
    count.wrappingAdd(1, ordering: .sequentiallyConsistent)
    try plain.encode(rows: rows, tokens: tokens, headDim: headDim, into: &bytes)
  }

  func decode(
    bytes: Span<UInt8>,
    tokens: Int,
    headDim: Int,
    into rows: inout MutableSpan<Float>
  ) throws {
    try check()
    try plain.decode(bytes: bytes, tokens: tokens, headDim: headDim, into: &rows)
  }
}
