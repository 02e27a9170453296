import MutationSupport
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

  @Test(arguments: cases)
  func mutatedFiles(test: SessionCase) throws {
    let folder = try TemporaryFolder()
    let original = try OriginalSession(test, path: folder.file("original"))
    let path = folder.file("mutated")
    let cache = try test.cache(budget: .mebibytes(64))
    var random = SeededRandom(UInt64(test.policy.count))
    var report = MutationReport(of: "sessions, \(test.policy)")
    for _ in 0..<MutationReport.count(orElse: 4_000) / Self.cases.count {
      let (bytes, isHonest) = original.mutated(using: &random)
      try write(bytes, to: path)
      report.add(byteCount: bytes.count) {
        let sequence = try cache.restoreSequence(from: path)
        // Rows that were dropped are zeros, of which a file may promise many.
        guard sequence.snapshot().layers.allSatisfy({ $0.tokenCount < 10_000 }) else { return }
        let rows = try sequence.allRows()
        _ = try sequence.answers()
        // Without new digests, what is read is what was written.
        if isHonest { #expect(rows == original.rows) }
      }
    }
    print(report)
    #expect(report.read > 0 && report.refused > report.read / 10)
    // A number that only promises does not get as far as the memory.
    #expect(report.refusals["budgetExceeded"] == nil && report.refusals["outOfMemory"] == nil)
    #expect(report.mostBytes <= 64 << 20)
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
      Mutation.change(&changed, in: 0..<bytes.count, using: &random)
      return (changed, true)
    case 1:
      // What is not padding.
      let ranges = [0..<128, superblock.index, 8192..<bytes.count]
      Mutation.change(&changed, in: ranges.randomElement(using: &random) ?? 0..<1, using: &random)
      return (changed, true)
    case 2:
      Mutation.cut(&changed, using: &random)
      return (changed, true)
    case 3:
      Mutation.change(&changed, in: 8..<96, using: &random)
      sign(&changed)
    case 4:
      Mutation.change(&changed, in: superblock.index, using: &random)
      signIndex(&changed)
    default:
      changePage(&changed, using: &random)
      signIndex(&changed)
    }
    return (changed, false)
  }

  /// Changes a page and its checksum; raw pages get much that is random.
  private func changePage(_ bytes: inout [UInt8], using random: inout SeededRandom) {
    var index = index
    let layer = Int.random(in: index.layers.indices, using: &random)
    let number = Int.random(in: index.layers[layer].pages.indices, using: &random)
    let page = index.layers[layer].pages[number]
    let range = page.offset..<page.offset + page.storedBytes
    for _ in 0..<Int.random(in: 1...40, using: &random) {
      Mutation.change(&bytes, in: range, using: &random)
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
