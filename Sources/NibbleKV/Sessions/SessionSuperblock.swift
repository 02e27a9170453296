import NibbleFiles

/// Which bytes of a session file count; there are two, so that one is whole while the other is written.
///
/// Specs/session-format.md has its bytes.
package struct SessionSuperblock: Hashable, Sendable {
  /// 1 for a file that was written anew, one more with each save that appended to it.
  package var generation: UInt64
  /// Bytes from the start of the file that belong to the session.
  package var byteCount: Int
  /// Where the index lies.
  package var index: Range<Int>
  /// The SHA-256 of the index.
  package var indexDigest: [UInt8]

  static let magic = Array("NibbleKV".utf8)
  static let version: UInt32 = 1
  static let byteCount = 128
  /// Bytes before the digest of the superblock itself.
  static let hashedBytes = 96
  /// Where the second one lies: in a sector of its own on every disk.
  static let spacing = 4096
  /// Where everything else begins.
  package static let dataStart = 2 * spacing
  /// Offsets are multiples of this.
  static let alignment = 64

  static let generationLimit: UInt64 = 1 << 62
  static let byteCountLimit = 1 << 62

  /// Where the superblock lies.
  var offset: Int { Self.offset(ofGeneration: generation) }

  static func offset(ofGeneration generation: UInt64) -> Int { generation % 2 == 1 ? 0 : spacing }
}

extension SessionSuperblock {
  /// The superblock as it is written.
  var bytes: [UInt8] {
    var writer = SessionWriter()
    writer.append(contentsOf: Self.magic)
    writer.append(Self.version)
    writer.append(UInt32(0))
    writer.append(generation)
    writer.append(UInt64(byteCount))
    writer.append(UInt64(index.lowerBound))
    writer.append(UInt64(index.count))
    writer.append(contentsOf: indexDigest)
    writer.append(zeros: 16)
    writer.append(contentsOf: digest(of: writer.bytes))
    return writer.bytes
  }

  /// The SHA-256 that the superblock ends with, which stands for all of it.
  var ownDigest: [UInt8] { Array(bytes[Self.hashedBytes...]) }

  /// Reads a superblock.
  ///
  /// - Parameters:
  ///   - bytes: 128 bytes.
  ///   - offset: Where they lie: 0 or 4,096.
  ///   - file: The file's name.
  /// - Throws: ``FileError/notOfKind(file:expected:)`` for another magic, ``FileError/damaged(file:what:offset:)`` for another digest,
  ///   ``FileError/unknownVersion(file:version:known:)``, and ``FileError/invalidField(file:field:offset:found:expected:)``.
  init(_ bytes: [UInt8], offset: Int, file: String) throws(FileError) {
    guard bytes.count == Self.byteCount, bytes.starts(with: Self.magic) else {
      throw .notOfKind(file: file, expected: "a session")
    }
    guard digest(of: bytes[..<Self.hashedBytes]).elementsEqual(bytes[Self.hashedBytes...]) else {
      throw .damaged(file: file, what: "a superblock", offset: UInt64(offset))
    }
    var reader = SessionReader(bytes, file: file, base: UInt64(offset))
    _ = try reader.take(Self.magic.count, "magic")
    let version = try reader.integer(UInt32.self, "version")
    guard version == Self.version else {
      throw .unknownVersion(file: file, version: UInt64(version), known: UInt64(Self.version))
    }
    try reader.zeros(4, "flags")
    generation = try reader.integer(UInt64.self, "generation")
    guard (1...Self.generationLimit).contains(generation),
      Self.offset(ofGeneration: generation) == offset
    else {
      throw reader.fault(
        "generation",
        at: 16,
        found: "\(generation)",
        expected: (offset == 0 ? "an odd" : "an even") + " number from 1 to \(Self.generationLimit)"
      )
    }
    byteCount = try reader.offset("byte count", upTo: Self.byteCountLimit)
    let start = try reader.offset("index offset", upTo: byteCount)
    let count = try reader.integer(UInt64.self, "index length")
    guard count > 0, count <= UInt64(byteCount - start) else {
      throw reader.fault(
        "index length",
        at: 40,
        found: "\(count)",
        expected: "1 to \(byteCount - start)"
      )
    }
    index = start..<start + Int(count)
    indexDigest = Array(try reader.take(32, "digest of the index"))
    try reader.zeros(16, "padding of the superblock")
  }
}

extension SessionReader {
  /// An offset behind the superblocks: a multiple of 64, up to `limit`.
  mutating func offset(
    _ field: @autoclosure () -> String,
    upTo limit: Int
  ) throws(FileError) -> Int {
    let start = position
    let value = try integer(UInt64.self, field())
    guard value >= UInt64(SessionSuperblock.dataStart), value <= UInt64(limit),
      value % UInt64(SessionSuperblock.alignment) == 0
    else {
      let range = "\(SessionSuperblock.dataStart) to \(limit)"
      throw fault(
        field(),
        at: start,
        found: "\(value)",
        expected: "a multiple of \(SessionSuperblock.alignment) from \(range)"
      )
    }
    return Int(value)
  }
}

/// What stands before the pages of a save that appended to a file: it tells an unfinished save from bytes that do not belong there.
struct SessionSegment: Hashable, Sendable {
  /// The generation that the save would have become.
  var generation: UInt64
  /// The digest of the superblock before.
  var previous: [UInt8]

  static let magic = Array("NibbleSg".utf8)
  static let byteCount = 64
  private static let hashedBytes = 48

  /// The header of a save after `superblock`.
  init(after superblock: SessionSuperblock) {
    generation = superblock.generation + 1
    previous = superblock.ownDigest
  }

  /// The header as it is written.
  var bytes: [UInt8] {
    var writer = SessionWriter()
    writer.append(contentsOf: Self.magic)
    writer.append(generation)
    writer.append(contentsOf: previous)
    writer.append(contentsOf: digest(of: writer.bytes).prefix(Self.byteCount - Self.hashedBytes))
    return writer.bytes
  }
}
