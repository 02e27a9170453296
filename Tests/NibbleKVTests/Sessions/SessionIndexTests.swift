import Foundation
import NibbleFiles
import Testing

@testable import NibbleKV

/// Superblocks and indices as bytes: what goes in comes out, and what cannot be is refused.
@Suite struct SessionIndexTests {
  private func session(_ test: SessionCase, tokens: Int = 200) throws -> SessionFile {
    let folder = try TemporaryFolder()
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<50, of: test.rows)
    try sequence.record(tokens: Array(0..<50).span)
    try sequence.append(50..<tokens, of: test.rows)
    try sequence.save(to: folder.file("a"))
    return try SessionFile(path: folder.file("a"))
  }

  private func read(_ bytes: [UInt8], _ superblock: SessionSuperblock) throws -> SessionIndex {
    try SessionIndex(bytes, superblock: superblock, file: "a")
  }

  @Test(arguments: SessionCase.all)
  func roundTrip(test: SessionCase) throws {
    let session = try session(test)
    #expect(try read(session.index.bytes, session.superblock) == session.index)
    let bytes = session.superblock.bytes
    #expect(bytes.count == 128)
    #expect(try SessionSuperblock(bytes, offset: 0, file: "a") == session.superblock)
    let field = FileError.invalidField(
      file: "a",
      field: "generation",
      offset: 4096 + 16,
      found: "1",
      expected: "an even number from 1 to \(1 << 62)"
    )
    #expect(fileError { _ = try SessionSuperblock(bytes, offset: 4096, file: "a") } == field)
  }

  /// No part of an index is one, and nothing may follow it.
  @Test(arguments: [SessionCase.all[1], SessionCase.all[7]])
  func everyLengthButTheRightOneIsRefused(test: SessionCase) throws {
    let session = try session(test, tokens: 110)
    let bytes = session.index.bytes
    // All of the head, and what follows in steps that meet every kind of field.
    for count in Array(0..<400) + Array(stride(from: 400, to: bytes.count, by: 13)) {
      let error = fileError { _ = try read(Array(bytes.prefix(count)), session.superblock) }
      guard case .invalidField = error else {
        Issue.record("\(count): \(String(describing: error))")
        return
      }
    }
    #expect(fileError { _ = try read(bytes + [0], session.superblock) } != nil)
  }

  /// Every word of the head and of a layer is checked: none can be anything.
  @Test func wordsOutOfRange() throws {
    let session = try session(SessionCase.all[1])
    let bytes = session.index.bytes
    let layer = bytes.count - session.index.layers.reduce(0) { $0 + Self.byteCount(of: $1) }
    for word in (0..<16).map({ 4 * $0 }) + (0..<9).map({ layer + 4 * $0 }) {
      var changed = bytes
      for byte in word..<word + 4 { changed[byte] = 0xff }
      let error = fileError { _ = try read(changed, session.superblock) }
      guard case .invalidField = error else {
        Issue.record("\(word): \(String(describing: error))")
        continue
      }
    }
  }

  private static func byteCount(of layer: SessionIndex.Layer) -> Int {
    let means = layer.means.map { means in
      means.strips.reduce(0) { $0 + 8 * (1 + 2 * $1.sums.count) }
        + means.frames.reduce(0) { $0 + 4 + $1.vectors.reduce(0) { $0 + 4 * $1.count } }
    }
    return 28 + 4 * layer.pageBytes.sealed.count * 2 + 32 * layer.storedPages.count + (means ?? 0)
  }

  /// Random changes of an index whose digest is right all the same: read or refused, never more.
  @Test func mutations() throws {
    var random = SeededRandom(11)
    for test in [SessionCase.all[1], SessionCase.all[7]] {
      let session = try session(test)
      let bytes = session.index.bytes
      var refused = 0
      for _ in 0..<4_000 {
        var changed = bytes
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let at = Int.random(in: 0..<bytes.count, using: &random)
          changed[at] = UInt8.random(in: 0...255, using: &random)
        }
        guard let index = try? read(changed, session.superblock) else {
          refused += 1
          continue
        }
        // What was read is what would be written.
        #expect(index.bytes == changed)
      }
      #expect(refused > 500)
    }
  }

  @Test func pagesMustNotOverlap() throws {
    let session = try session(SessionCase.all[4])
    var index = session.index
    index.layers[1].pages[0].offset = index.layers[0].pages[0].offset
    #expect(fileError { _ = try read(index.bytes, session.superblock) } != nil)
    index = session.index
    index.layers[1].pages[0].offset = session.superblock.index.lowerBound
    #expect(fileError { _ = try read(index.bytes, session.superblock) } != nil)
  }

  @Test func otherModelsAndOtherPlansAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("a")
    let test = SessionCase(policy: "linear:4@page_tokens=16")
    let sequence = try test.cache().makeSequence()
    try sequence.append(0..<100, of: test.rows)
    try sequence.save(to: path)
    func message(_ shape: ModelShape, _ policy: String) throws -> String {
      let cache = try KVCache(model: shape, policy: Policy(argument: policy), threads: 1)
      do {
        _ = try cache.restoreSequence(from: path)
        return "restored"
      } catch { return "\(error)" }
    }
    var model = test.shape
    model.fingerprint = nil
    #expect(
      try message(model, test.policy)
        == "\(path) was saved with another model: the fingerprint is 'f'; this cache has none"
    )
    model = test.shape
    model.slidingWindows = [nil, 500]
    #expect(
      try message(model, test.policy)
        == "\(path) was saved with another model: the list of sliding windows is [0, 0]; "
        + "this cache has [0, 500]"
    )
    for (policy, difference) in [
      ("linear:4@page_tokens=32", "page_tokens is 16; this cache has 32"),
      ("linear:4@page_tokens=16@sinks=5", "sinks is 4; this cache has 5"),
      ("linear:4@page_tokens=16@recent=65", "recent is 64; this cache has 65"),
      (
        "k=linear:4+v=linear:3@page_tokens=16",
        "the codec of layer 0, KV head 0, values is linear:4; this cache has linear:3"
      ),
      (
        "linear:4@page_tokens=16@skip_below=0.1",
        "whether pages have summaries is false; this cache has true"
      ),
    ] {
      #expect(
        try message(test.shape, policy) == "\(path) was saved under another policy: \(difference)"
      )
    }
  }
}
