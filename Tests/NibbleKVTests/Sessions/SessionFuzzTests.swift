import CTestSupport
import Foundation
import NibbleFiles
import Testing

@testable import NibbleKV

/// Files with random changes, and such whose digests are right all the same: refused or read, without a crash, a hang, or memory
/// for what a number only promises.
@Suite struct SessionFuzzTests {
  /// The codecs whose bytes lead somewhere: places of outliers, selectors, paths, a table.
  private static let cases = [
    SessionCase(policy: "k=linear:4+v=linear:3@outliers=2@recent=16@page_tokens=16", headDim: 16),
    SessionCase(
      policy: "k=bcq:3+v=clustered:4@k.mean=removed@recent=0@skip_below=0.01",
      headDim: 64
    ),
    SessionCase(policy: "k=pyramid:4+v=seeded@recent=16@page_tokens=16", headDim: 16),
    SessionCase(policy: "k=trellis:2+v=microscaling@recent=0", headDim: 64),
    SessionCase(policy: "float16@page_tokens=16", windows: [20, nil], headDim: 8),
  ]

  private static let mutations =
    ProcessInfo.processInfo.environment["NIBBLE_SESSION_MUTATIONS"].flatMap(Int.init) ?? 4_000

  @Test(arguments: cases)
  func mutatedFiles(test: SessionCase) throws {
    let folder = try TemporaryFolder()
    let original = try OriginalSession(test, path: folder.file("original"))
    let path = folder.file("mutated")
    let cache = try test.cache(budget: .mebibytes(64))
    var random = SeededRandom(UInt64(test.policy.count))
    var restored = 0
    var refused = 0
    _ = test_largest_allocation()
    for _ in 0..<Self.mutations / Self.cases.count {
      let (bytes, isHonest) = original.mutated(using: &random)
      try write(bytes, to: path)
      do {
        let sequence = try cache.restoreSequence(from: path)
        // Rows that were dropped are zeros, of which a file may promise many.
        guard sequence.snapshot().layers.allSatisfy({ $0.tokenCount < 10_000 }) else { continue }
        let rows = try sequence.allRows()
        _ = try sequence.answers()
        // Without new digests, what is read is what was written.
        if isHonest { #expect(rows == original.rows) }
        restored += 1
      } catch is KVError {
        refused += 1
      }
    }
    #expect(restored > 0 && refused > restored / 10)
    if test_can_count_allocations() {
      #expect(test_largest_allocation() <= original.bytes.count * 2 + 64 << 20)
    }
  }
}

/// A session, and ways to change it.
private struct OriginalSession {
  let bytes: [UInt8]
  let rows: [[UInt32]]
  private let superblock: SessionSuperblock
  private let index: SessionIndex

  init(_ test: SessionCase, path: String) throws {
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<20, of: test.rows)
    try sequence.record(tokens: Array(0..<20).span)
    try sequence.append(20..<100, of: test.rows)
    try sequence.save(to: path, options: SaveOptions(compressesPages: true))
    let session = try SessionFile(path: path)
    bytes = try NibbleKVTests.bytes(of: path)
    rows = try sequence.allRows()
    superblock = session.superblock
    index = session.index
  }

  /// Changed bytes, and whether the digests are still those of the original.
  func mutated(using random: inout SeededRandom) -> ([UInt8], isHonest: Bool) {
    var changed = bytes
    switch Int.random(in: 0..<6, using: &random) {
    case 0:
      Self.change(&changed, in: 0..<bytes.count, using: &random)
      return (changed, true)
    case 1:
      // What is not padding.
      let ranges = [0..<128, superblock.index, 8192..<bytes.count]
      Self.change(&changed, in: ranges.randomElement(using: &random) ?? 0..<1, using: &random)
      return (changed, true)
    case 2:
      let count = Int.random(in: 0..<bytes.count + 200, using: &random)
      changed = Array(changed.prefix(count))
      changed += Array(repeating: 1, count: count - changed.count)
      return (changed, true)
    case 3:
      Self.change(&changed, in: 8..<96, using: &random)
      sign(&changed)
    case 4:
      Self.change(&changed, in: superblock.index, using: &random)
      signIndex(&changed)
    default:
      changePage(&changed, using: &random)
      signIndex(&changed)
    }
    return (changed, false)
  }

  private static func change(
    _ bytes: inout [UInt8],
    in range: Range<Int>,
    using random: inout SeededRandom
  ) {
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let at = Int.random(in: range, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 2: bytes[at] = 0xff
      default: bytes[at] = 0
      }
    }
  }

  /// Changes a page and its checksum; raw pages get much that is random.
  private func changePage(_ bytes: inout [UInt8], using random: inout SeededRandom) {
    var index = index
    let layer = Int.random(in: index.layers.indices, using: &random)
    let number = Int.random(in: index.layers[layer].pages.indices, using: &random)
    let page = index.layers[layer].pages[number]
    let range = page.offset..<page.offset + page.storedBytes
    for _ in 0..<Int.random(in: 1...40, using: &random) {
      Self.change(&bytes, in: range, using: &random)
    }
    index.layers[layer].pages[number].checksum = bytes[range].withUnsafeBytes {
      PageChecksum(of: $0)
    }
    bytes.replaceSubrange(superblock.index, with: index.bytes)
  }

  private func signIndex(_ bytes: inout [UInt8]) {
    bytes.replaceSubrange(48..<80, with: digest(of: bytes[superblock.index]))
    sign(&bytes)
  }

  private func sign(_ bytes: inout [UInt8]) {
    bytes.replaceSubrange(96..<128, with: digest(of: bytes[..<96]))
  }
}
