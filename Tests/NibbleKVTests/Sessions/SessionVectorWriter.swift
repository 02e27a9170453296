import Foundation
import NibbleFiles
import Testing

@testable import NibbleKV

/// Whether golden files are to be written.
let writesVectors = ProcessInfo.processInfo.environment["NIBBLE_WRITE_VECTORS"] == "1"

/// Writes the files of Specs/vectors/sessions, when asked to.
@Suite(.enabled(if: writesVectors))
struct SessionVectorWriter {
  typealias Expected = SessionVectorTests.Expected
  typealias Model = SessionVectorTests.Model

  @Test func write() throws {
    var files: [String: Expected] = [:]
    try FileManager.default.createDirectory(
      at: SessionVectorTests.folder,
      withIntermediateDirectories: true
    )
    try writeRightOnes(&files)
    try writeCalibrated(&files)
    try writeWrongOnes(&files)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
    let data = try encoder.encode(SessionVectorTests.List(files: files)) + Data("\n".utf8)
    try data.write(to: SessionVectorTests.folder.appendingPathComponent("sessions.json"))
  }

  private func path(_ name: String) -> String {
    SessionVectorTests.folder.appendingPathComponent(name).path
  }

  // MARK: - Files that are read

  private static let small = ModelShape(layers: 1, queryHeads: 1, kvHeads: 1, headDim: 8)
  private static let example = "linear:4@page_tokens=16@sinks=0@recent=0@exact_rows=float32"

  /// A policy without a name, which is of no use to a reader.
  private static func policy(_ argument: String) throws -> Policy {
    var policy = try Policy(argument: argument)
    policy.name = nil
    return policy
  }

  /// The rows of the example in Specs/page-layout.md.
  private static func exampleRows(_ count: Int) -> TokenRows {
    let rows: [Float] = (0..<count).flatMap { token in
      (0..<8).map { channel in
        let code = channel == 0 ? 0 : channel == 7 ? 15 : (token + channel) % 16
        return Float(code - 3) / 2
      }
    }
    return TokenRows(keys: rows, values: rows, rowLength: 8)
  }

  private func writeRightOnes(_ files: inout [String: Expected]) throws {
    func add(_ name: String, _ shape: ModelShape, _ policy: Policy) throws {
      let found = try SessionVectorTests.read(
        name,
        model: Model(shape),
        policy: policy.yaml
      )
      #expect(found.error == nil, "\(name)")
      files[name] = found
    }
    let policy = try Self.policy(Self.example)
    try writeExample(policy)
    try add("example.session", Self.small, policy)
    let empty = try KVCache(model: Self.small, policy: policy, threads: 1).makeSequence()
    try remove("empty.session")
    try empty.save(to: path("empty.session"))
    try add("empty.session", Self.small, policy)

    var two = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 16)
    two.fingerprint = "a model of the vectors"
    for (name, argument, compresses) in [
      (
        "means.session",
        "k=linear:4+v=rotated:3@mean=removed@page_tokens=32@recent=20@sinks=4", true
      ),
      ("summaries.session", "k=bcq:4+v=int8@skip_below=0.01@page_tokens=16@recent=16", true),
      ("outliers.session", "linear:3@outliers=2@page_tokens=48@recent=0@sinks=20", false),
    ] {
      let policy = try Self.policy(argument)
      try writeSaves(name, two, policy, compresses: compresses)
      try add(name, two, policy)
    }
    var aged = try Self.policy("int8@page_tokens=16@recent=16@mean=removed")
    aged.ages = [
      Policy.Age(beyond: 48, keys: .rotated(4), values: .linear(4)),
      Policy.Age(beyond: 96, keys: .rotated(2).centred, values: .linear(2)),
    ]
    try writeSaves("ages.session", two, aged, compresses: false)
    try add("ages.session", two, aged)
    two.slidingWindows = [24, nil]
    let exact = try Self.policy("float32@page_tokens=16@recent=16@exact_rows=float32")
    try writeSaves("windows.session", two, exact, compresses: true)
    try add("windows.session", two, exact)

    var means = try bytes(of: path("means.session"))
    let session = try SessionFile(path: path("means.session"))
    let header = SessionSegment(after: session.superblock).bytes
    try NibbleKVTests.write(
      means + header + Array(repeating: 1, count: 100),
      to: path("unfinished.session")
    )
    // Its newest index, or its newest superblock: the save before counts.
    means[session.superblock.index.lowerBound + 3] ^= 1
    try NibbleKVTests.write(means, to: path("older-index.session"))
    means = try bytes(of: path("means.session"))
    means[session.superblock.offset + 50] ^= 1
    try NibbleKVTests.write(means, to: path("older-superblock.session"))
    let meansPolicy = try Policy(yaml: try #require(files["means.session"]).policy)
    two.slidingWindows = [nil, nil]
    for name in ["unfinished.session", "older-index.session", "older-superblock.session"] {
      try add(name, two, meansPolicy)
    }
  }

  private func remove(_ name: String) throws {
    try? FileManager.default.removeItem(atPath: path(name))
  }

  private func writeExample(_ policy: Policy) throws {
    let sequence = try KVCache(model: Self.small, policy: policy, threads: 1).makeSequence()
    // What is due is sealed with the next append.
    for step in [0..<16, 16..<17] {
      try Self.exampleRows(17).append(step, to: sequence)
    }
    try sequence.record(tokens: Array(0..<17).span)
    try remove("example.session")
    try sequence.save(to: path("example.session"))
  }

  /// Three saves, of which the later ones append.
  private func writeSaves(
    _ name: String,
    _ shape: ModelShape,
    _ policy: Policy,
    compresses: Bool,
    catalogue: CodecCatalogue = .standard
  ) throws {
    let cache = try KVCache(model: shape, policy: policy, threads: 1, catalogue: catalogue)
    let sequence = cache.makeSequence()
    var random = SeededRandom(7)
    let count = 150 * shape.kvHeads * shape.headDim
    // Halves are short numbers, which leave something to compress.
    let keys = random.normals(count, mean: 1).map { ($0 * 2).rounded() / 2 }
    let values = random.normals(count, mean: -1).map { ($0 * 2).rounded() / 2 }
    let rows = TokenRows(keys: keys, values: values, rowLength: shape.kvHeads * shape.headDim)
    try remove(name)
    for step in [0..<100, 100..<120, 120..<150] {
      try sequence.append(step, of: rows, by: 10)
      try sequence.record(tokens: Array(step).span)
      try sequence.save(to: path(name), options: SaveOptions(compressesPages: compresses))
    }
  }

  /// Sessions whose plan uses a calibration, and one that is read with another calibration than it was written with.
  private func writeCalibrated(_ files: inout [String: Expected]) throws {
    var shape = ModelShape(layers: 1, queryHeads: 2, kvHeads: 1, headDim: 32)
    shape.fingerprint = "a calibrated model"
    let calibration = "model.calibration"
    try AlignedTests.calibration(of: shape, tokens: 100).write(to: path(calibration))
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = try Calibration(path: path(calibration))
    for (name, argument) in [
      (
        "aligned.session",
        "k=rotated:3+v=trellis:2@rotation=aligned@k.mean=removed@sinks=4@recent=0"
      ),
      ("shaped.session", "k=rotated:4+v=linear:4@k.shaping=queries@page_tokens=32@recent=16"),
    ] {
      let policy = try Self.policy(argument)
      try writeSaves(name, shape, policy, compresses: false, catalogue: catalogue)
      let found = try SessionVectorTests.read(
        name,
        model: Model(shape),
        policy: policy.yaml,
        calibration: calibration
      )
      #expect(found.error == nil, "\(name)")
      files[name] = found
    }
    try AlignedTests.calibration(of: shape, tokens: 101).write(to: path("other.calibration"))
    var other = try #require(files["aligned.session"])
    other = Expected(model: other.model, policy: other.policy, calibration: "other.calibration")
    other.error = "other-plan"
    let bytes = try bytes(of: path("aligned.session"))
    try NibbleKVTests.write(bytes, to: path("other-calibration.session"))
    files["other-calibration.session"] = other
  }

  // MARK: - Files that are refused

  private func writeWrongOnes(_ files: inout [String: Expected]) throws {
    let policy = try Self.policy(Self.example)
    let whole = try bytes(of: path("example.session"))
    let session = try SessionFile(path: path("example.session"))
    var wrong = WrongSessions(whole: whole, superblock: session.superblock, index: session.index)
    wrong.addAll()
    for (name, word, bytes) in wrong.files {
      try NibbleKVTests.write(bytes, to: path(name))
      let model = Model(Self.small)
      let found = try SessionVectorTests.read(name, model: model, policy: policy.yaml)
      #expect(found.error == word, "\(name)")
      files[name] = Expected(model: model, policy: policy.yaml, error: word)
    }
    var model = Model(Self.small)
    model.fingerprint = "another"
    try NibbleKVTests.write(whole, to: path("other-model.session"))
    files["other-model.session"] = Expected(
      model: model,
      policy: policy.yaml,
      error: "other-model"
    )
    try NibbleKVTests.write(whole, to: path("other-plan.session"))
    files["other-plan.session"] = Expected(
      model: Model(Self.small),
      policy: try Policy(argument: Self.example + "@v.outliers=1").yaml,
      error: "other-plan"
    )
  }
}

/// A right file, made wrong in many ways.
private struct WrongSessions {
  let whole: [UInt8]
  let superblock: SessionSuperblock
  let index: SessionIndex
  var files: [(name: String, word: String, bytes: [UInt8])] = []

  init(whole: [UInt8], superblock: SessionSuperblock, index: SessionIndex) {
    self.whole = whole
    self.superblock = superblock
    self.index = index
  }

  mutating func addAll() {
    addFiles()
    addSuperblocks()
    addIndices()
  }

  private mutating func add(_ name: String, _ word: String, _ bytes: [UInt8]) {
    files.append((name + ".session", word, bytes))
  }

  private mutating func addFiles() {
    func changed(_ place: Int) -> [UInt8] {
      var bytes = whole
      bytes[place] ^= 0x10
      return bytes
    }
    add("no-bytes", "not-a-session", [])
    add("a-text", "not-a-session", Array("NibbleKW and some more".utf8))
    add("no-magic", "not-a-session", changed(3))
    add("short", "truncated", Array(whole.prefix(5_000)))
    add("cut-off", "truncated", Array(whole.dropLast(64)))
    add("foreign-rest", "longer", whole + Array(repeating: 0, count: 65))
    add("damaged-superblock", "damaged", changed(30))
    add("damaged-index", "damaged", changed(superblock.index.lowerBound + 9))
    add("damaged-page", "damaged", changed(index.layers[0].pages[0].offset + 33))
    add("damaged-rows", "damaged", changed(index.layers[0].pages[1].offset + 33))
  }

  private mutating func addSuperblocks() {
    func changed(_ place: Int, _ value: UInt64, size: Int = 8) -> [UInt8] {
      var bytes = whole
      withUnsafeBytes(of: value.littleEndian) {
        bytes.replaceSubrange(place..<place + size, with: $0.prefix(size))
      }
      return Self.signed(bytes)
    }
    add("version-2", "unknown-version", changed(8, 2, size: 4))
    add("flags", "invalid-field", changed(12, 1, size: 4))
    add("generation-0", "invalid-field", changed(16, 0))
    add("generation-2", "invalid-field", changed(16, 2))
    add("endless-generation", "invalid-field", changed(16, .max))
    add("odd-byte-count", "invalid-field", changed(24, UInt64(whole.count) - 1))
    add("endless-byte-count", "invalid-field", changed(24, .max - 63))
    add("long-byte-count", "truncated", changed(24, 1 << 62))
    add("index-in-superblock", "invalid-field", changed(32, 64))
    add("endless-index", "invalid-field", changed(40, .max))
    add("no-index", "invalid-field", changed(40, 0))
    add("superblock-padding", "invalid-field", changed(80, 1))
  }

  private mutating func addIndices() {
    func changed(_ change: (inout SessionIndex) -> Void) -> [UInt8] {
      var index = index
      change(&index)
      return with(index: index.bytes)
    }
    func changed(word: Int, to value: UInt32) -> [UInt8] {
      var bytes = index.bytes
      withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(word..<word + 4, with: $0) }
      return with(index: bytes)
    }
    for (name, word, value): (String, Int, UInt32) in [
      ("no-layers", 0, 0), ("endless-layers", 0, .max), ("query-heads", 4, 513),
      ("head-dim", 12, 12),
      ("endless-codecs", 32, 65_536), ("exact-codec", 36, 9), ("index-flags", 40, 8),
      ("endless-tokens", 44, .max), ("endless-policy", 56, .max),
    ] {
      add(name, "invalid-field", changed(word: word, to: value))
    }
    add("index-goes-on", "invalid-field", with(index: index.bytes + [0]))
    add("index-ends", "invalid-field", with(index: index.bytes.dropLast()))
    add("negative-token", "invalid-field", changed { $0.tokens[3] = -1 })
    add("more-ids-than-tokens", "invalid-field", changed { $0.tokens.append(17) })
    add("codec-number", "invalid-field", changed { $0.plan.rungs[0][0].strips[1] = 7 })
    add(
      "rungs",
      "invalid-field",
      changed { index in
        index.plan.rungs[0] += Array(repeating: index.plan.rungs[0][0], count: 5)
        index.layers[0].pageBytes.sealed += Array(repeating: 320, count: 5)
        index.layers[0].agedCounts = [0, 0, 0, 0, 0]
      }
    )
    add(
      "ages-not-ascending",
      "invalid-field",
      changed { index in
        var rung = index.plan.rungs[0][0]
        rung.beyond = 50
        index.plan.rungs[0] += [rung, rung]
        index.layers[0].pageBytes.sealed += [320, 320]
        index.layers[0].agedCounts = [0, 0]
      }
    )
    add(
      "aged-pages",
      "invalid-field",
      changed { index in
        var rung = index.plan.rungs[0][0]
        rung.beyond = 50
        index.plan.rungs[0].append(rung)
        index.layers[0].pageBytes.sealed.append(320)
        index.layers[0].agedCounts = [2]
      }
    )
    add("pages", "invalid-field", changed { $0.layers[0].pageCount = 3 })
    add("sealed-pages", "invalid-field", changed { $0.layers[0].sealedCount = 2 })
    add("dropped-pages", "invalid-field", changed { $0.layers[0].droppedCount = 1 })
    add(
      "dropped-with-window",
      "invalid-field",
      changed { index in
        index.shape.slidingWindows = [8]
        index.layers[0].droppedCount = 2
      }
    )
    add(
      "endless-layer",
      "invalid-field",
      changed { index in
        index.shape.slidingWindows = [8]
        index.layers[0].tokenCount = 1 << 25
        index.layers[0].pageCount = 1 << 21
        index.layers[0].sealedCount = 1 << 21
        index.layers[0].droppedCount = 1 << 21
      }
    )
    add("page-bytes", "invalid-field", changed { $0.layers[0].pageBytes.sealed[0] = 321 })
    add("page-offset", "invalid-field", changed { $0.layers[0].pages[0].offset += 32 })
    add("page-in-superblock", "invalid-field", changed { $0.layers[0].pages[0].offset = 4_096 })
    add("page-behind-end", "invalid-field", changed { $0.layers[0].pages[0].offset = 1 << 40 })
    add("stored-bytes", "invalid-field", changed { $0.layers[0].pages[0].storedBytes = 256 })
    add("two-in-one", "invalid-field", changed { $0.layers[0].pages[1].offset = 8_192 })
    add(
      "page-in-index",
      "invalid-field",
      changed { $0.layers[0].pages[0].offset = superblock.index.lowerBound }
    )
    add("no-frame", "damaged", lz4Page(bytes: Array(whole[8_192..<8_448])))
    // The magic of a frame and nothing behind it.
    add("short-frame", "damaged", lz4Page(bytes: [4, 0x22, 0x4d, 0x18]))
  }

  /// The first page as what is said to be an LZ4 frame, with a right checksum.
  private func lz4Page(bytes: [UInt8]) -> [UInt8] {
    var index = index
    index.layers[0].pages[0].encoding = .lz4
    index.layers[0].pages[0].storedBytes = bytes.count
    index.layers[0].pages[0].checksum = bytes.withUnsafeBytes { PageChecksum(of: $0) }
    var file = with(index: index.bytes)
    file.replaceSubrange(8_192..<8_192 + bytes.count, with: bytes)
    return file
  }

  private func with(index bytes: some Collection<UInt8>) -> [UInt8] {
    var superblock = superblock
    let start = superblock.index.lowerBound
    superblock.index = start..<start + bytes.count
    superblock.indexDigest = digest(of: bytes)
    var file = Array(whole[..<start]) + bytes
    file += Array(repeating: 0, count: (64 - file.count % 64) % 64)
    superblock.byteCount = file.count
    file.replaceSubrange(0..<128, with: superblock.bytes)
    return file
  }

  private static func signed(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    bytes.replaceSubrange(96..<128, with: digest(of: bytes[..<96]))
    return bytes
  }
}
