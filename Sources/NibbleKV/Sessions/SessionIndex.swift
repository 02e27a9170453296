package import NibblePolicy

/// Everything that a session is but the bytes of its pages.
///
/// A value that knows nothing of files; Specs/session-format.md has its bytes.
package struct SessionIndex: Hashable, Sendable {
  /// The version of the library that wrote it.
  package var libraryVersion: String
  /// The model, with its fingerprint.
  package var shape: ModelShape
  /// The policy as YAML, for people and tools; what counts is ``plan``.
  package var policy: String
  package var plan: Plan
  /// Ids of the first tokens, as far as they are known.
  package var tokens: [Int32]
  package var layers: [Layer]

  /// What the pages are encoded with.
  package struct Plan: Hashable, Sendable {
    package var pageTokens: Int
    package var sinks: Int
    package var recent: Int
    /// Tokens that the sink page has room for.
    package var sinkPageTokens: Int
    /// Whether sealed pages have summaries of their keys.
    package var hasSummaries: Bool
    /// Descriptions of codecs, each once.
    package var codecs: [String]
    /// Which of them exact rows have.
    package var exactRows: Int
    /// What pages of each layer are sealed as, and what they become with age.
    package var rungs: [[Rung]]
    /// The SHA-256 of the calibration's transforms, if the plan uses one.
    package var calibrationDigest: [UInt8]?

    /// What sealed pages of one age are encoded with.
    package struct Rung: Hashable, Sendable {
      /// Pages all of whose tokens are older than so many of the newest are of this rung; 0 in the first.
      package var beyond: Int
      /// Which of the codecs each strip has: keys before values, then KV heads.
      package var strips: [UInt16]
    }
  }

  /// What a session has of one layer.
  package struct Layer: Hashable, Sendable {
    package var tokenCount: Int
    /// Pages after the sinks, dropped ones included.
    package var pageCount: Int
    /// How many pages, from the front, are sealed.
    package var sealedCount: Int
    /// By rung from the second on: how many pages, from the front, are at least of that rung.
    package var agedCounts: [Int]
    /// How many pages, from the front, are missing because no query sees them any more.
    package var droppedCount: Int
    package var pageBytes: PageBytes
    package var sinkPage: Page?
    /// The pages from ``droppedCount`` on.
    package var pages: [Page]
    /// What was subtracted from sealed rows.
    package var means: Means?

    /// Bytes of each kind of page.
    package struct PageBytes: Hashable, Sendable {
      /// By rung.
      package var sealed: [Int]
      package var exact, sink: Int
    }

    /// Bytes of the page at an index; the sink page is -1.
    package func byteCount(ofPage index: Int) -> Int {
      if index < 0 { return pageBytes.sink }
      return rung(ofPage: index).map { pageBytes.sealed[$0] } ?? pageBytes.exact
    }

    /// What a sealed page is encoded as; `nil` for an exact one.
    func rung(ofPage index: Int) -> Int? {
      guard (0..<sealedCount).contains(index) else { return nil }
      return agedCounts.reduce(0) { $0 + (index < $1 ? 1 : 0) }
    }

    /// The pages that are there, by index; the sink page is -1.
    package var storedPages: [(index: Int, page: Page)] {
      let sinks = sinkPage.map { [(index: -1, page: $0)] } ?? []
      return sinks + pages.enumerated().map { (index: droppedCount + $0.offset, page: $0.element) }
    }
  }

  /// Where a page's bytes are.
  package struct Page: Hashable, Sendable {
    package var offset: Int
    /// Bytes in the file.
    package var storedBytes: Int
    package var encoding: LosslessBlock.Encoding
    /// Of the bytes in the file.
    package var checksum: PageChecksum

    /// The page's bytes in the file, with what pads them to whole lines.
    var range: Range<Int> { offset..<offset + SessionIndex.aligned(storedBytes) }
  }

  /// The vectors that were subtracted, and what is known for the next ones.
  ///
  /// Both for the strips whose codec removes the mean, in the order of KV heads, keys before values.
  package struct Means: Hashable, Sendable {
    package var strips: [Sums]
    package var frames: [Frame]

    /// Sums over the mean rows of a strip's pages.
    package struct Sums: Hashable, Sendable {
      /// Pages that were summed up.
      package var pages: Double
      /// Sums, and sums of squares, by channel.
      package var sums, squares: [Double]
    }

    /// Vectors that were subtracted from a page on.
    package struct Frame: Hashable, Sendable {
      package var firstPage: Int
      package var vectors: [[Float]]
    }
  }
}

extension SessionIndex {
  /// Tokens that every layer has.
  package var tokenCount: Int { layers.map(\.tokenCount).min() ?? 0 }

  /// The codec of a strip when its page is sealed, as text.
  package func codec(layer: Int, head: Int, isKeys: Bool) -> String {
    plan.codecs[Int(plan.rungs[layer][0].strips[(isKeys ? 0 : shape.kvHeads) + head])]
  }

  /// Most pages that may have been dropped, of all layers.
  static let droppedLimit = 1 << 22

  /// Whether a layer has pages that are sealed: not where all strips are exact rows as the tail is.
  func isCoded(layer: Int) -> Bool {
    plan.rungs[layer][0].strips.contains {
      plan.codecs[Int($0)] != plan.codecs[plan.exactRows]
    }
  }

  /// The strips of a layer whose mean is removed, counted head by head, keys before values.
  func centredStrips(layer: Int) -> [Int] {
    (0..<2 * shape.kvHeads).filter {
      Self.removesMean(codec(layer: layer, head: $0 / 2, isKeys: $0 % 2 == 0))
    }
  }

  private static func removesMean(_ codec: String) -> Bool {
    codec.split(separator: " ").dropFirst().contains("mean=removed")
  }

  /// A count of bytes with what pads them to whole lines.
  static func aligned(_ count: Int) -> Int {
    (count + SessionSuperblock.alignment - 1) & ~(SessionSuperblock.alignment - 1)
  }
}
