import Foundation
import NibbleFiles
import Testing

@testable import NibbleKV

/// A folder of a test's own, gone with it.
final class TemporaryFolder {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory
      .appendingPathComponent("nibble-sessions-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }

  var names: [String] {
    (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? []
  }
}

/// A model and a policy that sessions are tested with, and rows for it.
struct SessionCase: Sendable, CustomStringConvertible {
  var policy: String
  var windows: [Int?]?
  var ages: [(beyond: Int, codec: String)] = []
  var tokens = 300
  var headDim = 32

  var description: String { policy }

  var shape: ModelShape {
    ModelShape(
      layers: 2,
      queryHeads: 4,
      kvHeads: 2,
      headDim: headDim,
      slidingWindows: windows,
      fingerprint: "f"
    )
  }

  /// Every kind of page, means, summaries, windows.
  static let all = [
    SessionCase(policy: "balanced"),
    SessionCase(policy: "trellis:3@mean=removed@page_tokens=32@recent=40"),
    SessionCase(policy: "k=linear:4+v=rotated:4@skip_below=0.01@sinks=20"),
    SessionCase(policy: "k=clustered:4+v=int8@sinks=0@recent=0@page_tokens=16"),
    SessionCase(policy: "float16"),
    SessionCase(policy: "exact"),
    SessionCase(policy: "k=pyramid:4+v=linear:4@k.mean=removed"),
    SessionCase(policy: "linear:4@page_tokens=16@recent=16", windows: [100, nil]),
    SessionCase(
      policy: "int8@page_tokens=16@recent=16",
      ages: [(60, "rotated:4"), (150, "linear:2")]
    ),
  ]

  func cache(
    budget: ByteBudget = .unlimited,
    disk: DiskTier? = nil,
    calibration: Calibration? = nil
  ) throws -> KVCache {
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = calibration
    return try KVCache(
      model: shape,
      policy: agedPolicy(),
      budget: budget,
      disk: disk,
      threads: 1,
      catalogue: catalogue
    )
  }

  private func agedPolicy() throws -> Policy {
    var policy = try Policy(argument: policy)
    policy.ages = try ages.map { age in
      let codecs = try Policy(argument: age.codec)
      return Policy.Age(beyond: age.beyond, keys: codecs.keys, values: codecs.values)
    }
    return policy
  }

  /// Cheap rows, since tests ask for them again and again: uniform, one number of 64 bits for each value.
  var rows: TokenRows {
    var random = SeededRandom(3)
    let length = shape.kvHeads * shape.headDim
    func values() -> [Float] {
      (0..<2 * tokens * length).map { _ in Float(random.next() >> 40) / Float(1 << 22) - 1.5 }
    }
    return TokenRows(keys: values(), values: values(), rowLength: length)
  }
}

extension KVSequence {
  /// Appends tokens to all layers.
  func append(_ tokens: Range<Int>, of rows: TokenRows, by chunk: Int = 50) throws {
    for layer in 0..<shape.layers { try rows.append(tokens, by: chunk, to: self, layer: layer) }
  }

  /// Everything that attention sees, as bits.
  func allRows() throws -> [[UInt32]] {
    try (0..<shape.layers).flatMap { layer in
      let rows = try decodedRows(layer: layer)
      return [rows.keys.map(\.bitPattern), rows.values.map(\.bitPattern)]
    }
  }

  /// What attention gives in each layer, as bits.
  func answers() throws -> [[UInt32]] {
    try (0..<shape.layers).map { layer in
      let options = AttentionOptions(window: shape.slidingWindows[layer])
      return try attended(randomQueries(shape: shape), layer: layer, options: options)
        .map(\.bitPattern)
    }
  }
}

/// Whether two sequences are and stay the same, bit for bit.
func expectEqual(
  _ a: KVSequence,
  _ b: KVSequence,
  goingOnWith rows: TokenRows? = nil,
  _ location: SourceLocation = #_sourceLocation
) throws {
  #expect(a.tokenCount == b.tokenCount, sourceLocation: location)
  #expect(a.tokens == b.tokens, sourceLocation: location)
  #expect(try a.allRows() == b.allRows(), sourceLocation: location)
  if a.tokenCount > 0 {
    #expect(try a.answers() == b.answers(), sourceLocation: location)
  }
  guard let rows else { return }
  let count = a.tokenCount
  for step in [count..<count + 1, count + 1..<min(rows.count, count + 200)] {
    try a.append(step, of: rows, by: 7)
    try b.append(step, of: rows, by: 7)
  }
  try expectEqual(a, b, location)
}

/// The error that `body` throws about a file.
func fileError(_ body: () throws -> Void) -> FileError? {
  do {
    try body()
    return nil
  } catch KVError.file(let error) {
    return error
  } catch {
    return error as? FileError
  }
}

func bytes(of path: String) throws -> [UInt8] {
  Array(try Data(contentsOf: URL(fileURLWithPath: path)))
}

func write(_ bytes: [UInt8], to path: String) throws {
  try Data(bytes).write(to: URL(fileURLWithPath: path))
}
