import NibbleFiles
import NibblePolicy

/// Reading what an index says of each layer.
extension SessionIndex {
  func layerEntry(
    _ layer: Int,
    limit: Int,
    _ reader: inout SessionReader
  ) throws(FileError) -> Layer {
    let place = { (what: String) in "\(what) of layer \(layer)" }
    let tokenCount = try reader.count(in: 0...ModelShape.tokenLimit, place("tokens"))
    let paged = max(0, tokenCount - plan.sinks)
    let pageCount = (paged + plan.pageTokens - 1) / plan.pageTokens
    _ = try reader.count(in: pageCount...pageCount, place("pages"))
    let full = paged / plan.pageTokens
    let isCoded = isCoded(layer: layer)
    let sealedCount = try reader.count(in: 0...(isCoded ? full : 0), place("sealed pages"))
    let mostDropped = shape.slidingWindows[layer] == nil ? 0 : isCoded ? sealedCount : full
    let droppedCount = try reader.count(in: 0...mostDropped, place("dropped pages"))
    let hasMeans = sealedCount > 0 && !centredStrips(layer: layer).isEmpty
    let frames = try reader.count(
      in: hasMeans ? 1...sealedCount : 0...0,
      place("mean vectors")
    )
    let flags = UInt32(try reader.count(in: 0...Int(LayerFlags.all), place("flags")))
    try check(flags, tokenCount: tokenCount, hasMeans: hasMeans, layer: layer, reader)
    var sizes = Layer.PageBytes(
      sealed: [],
      exact: try reader.pageBytes(place("bytes of an exact page")),
      sink: try reader.pageBytes(place("bytes of the sink page"))
    )
    for _ in plan.rungs[layer] {
      sizes.sealed.append(try reader.pageBytes(place("bytes of a sealed page")))
    }
    var agedCounts: [Int] = []
    for _ in plan.rungs[layer].dropFirst() {
      let most = agedCounts.last ?? sealedCount
      agedCounts.append(try reader.count(in: 0...most, place("aged pages")))
    }
    var result = Layer(
      tokenCount: tokenCount,
      pageCount: pageCount,
      sealedCount: sealedCount,
      agedCounts: agedCounts,
      droppedCount: droppedCount,
      pageBytes: sizes,
      pages: []
    )
    if flags & LayerFlags.hasSinkPage != 0 {
      result.sinkPage = try reader.page(-1, of: result, layer: layer, limit: limit)
    }
    try reader.require(pageCount - droppedCount, of: Self.pageBytes, place("page table"))
    result.pages.reserveCapacity(pageCount - droppedCount)
    for index in droppedCount..<pageCount {
      result.pages.append(try reader.page(index, of: result, layer: layer, limit: limit))
    }
    if flags & LayerFlags.hasMeans != 0 {
      result.means = try means(layer, frames: frames, sealedCount: sealedCount, &reader)
    }
    return result
  }

  /// A sink page and means are there exactly when the other numbers say so.
  private func check(
    _ flags: UInt32,
    tokenCount: Int,
    hasMeans: Bool,
    layer: Int,
    _ reader: SessionReader
  ) throws(FileError) {
    var expected: UInt32 = 0
    if tokenCount > 0, plan.sinks > 0 { expected |= LayerFlags.hasSinkPage }
    if hasMeans { expected |= LayerFlags.hasMeans }
    guard flags == expected else {
      throw reader.fault(
        "flags of layer \(layer)",
        at: reader.position - 4,
        found: "\(flags)",
        expected: "\(expected)"
      )
    }
  }

  private func means(
    _ layer: Int,
    frames: Int,
    sealedCount: Int,
    _ reader: inout SessionReader
  ) throws(FileError) -> Means {
    let strips = centredStrips(layer: layer).count
    let dim = shape.headDim
    try reader.require(strips, of: 8 + 16 * dim, "sums of layer \(layer)")
    var result = Means(strips: [], frames: [])
    for _ in 0..<strips {
      let pages = try reader.doubles(1, "pages in the sums of layer \(layer)")[0]
      guard pages >= 1, pages <= 0x1p53, pages == pages.rounded() else {
        throw reader.fault(
          "pages in the sums of layer \(layer)",
          at: reader.position - 8,
          found: "\(pages)",
          expected: "a whole number from 1"
        )
      }
      let sums = try reader.doubles(dim, "sums of layer \(layer)")
      let squares = try reader.doubles(dim, "sums of squares of layer \(layer)")
      result.strips.append(Means.Sums(pages: pages, sums: sums, squares: squares))
    }
    try reader.require(frames, of: 4 + 4 * dim * strips, "mean vectors of layer \(layer)")
    for _ in 0..<frames {
      let first = try reader.count(
        in: 0...sealedCount - 1,
        "page of mean vectors of layer \(layer)"
      )
      guard first > result.frames.last?.firstPage ?? first - 1, first == 0 || !result.frames.isEmpty
      else {
        throw reader.fault(
          "page of mean vectors of layer \(layer)",
          at: reader.position - 4,
          found: "\(first)",
          expected: result.frames.last.map { "more than \($0.firstPage)" } ?? "0"
        )
      }
      var vectors: [[Float]] = []
      for _ in 0..<strips {
        vectors.append(try reader.floats(dim, "mean vectors of layer \(layer)"))
      }
      result.frames.append(Means.Frame(firstPage: first, vectors: vectors))
    }
    return result
  }
}

extension SessionReader {
  fileprivate mutating func pageBytes(_ field: String) throws(FileError) -> Int {
    let start = position
    let count = try count(in: 64...Int(UInt32.max), field)
    guard count % SessionSuperblock.alignment == 0 else {
      throw fault(field, at: start, found: "\(count)", expected: "a multiple of 64")
    }
    return count
  }

  /// One entry of a page table.
  fileprivate mutating func page(
    _ index: Int,
    of layer: SessionIndex.Layer,
    layer number: Int,
    limit: Int
  ) throws(FileError) -> SessionIndex.Page {
    let what = { (field: String) in
      "\(field) of \(index < 0 ? "the sink page" : "page \(index)") of layer \(number)"
    }
    let byteCount = layer.byteCount(ofPage: index)
    let offset = try offset(what("offset"), upTo: limit)
    let start = position
    let storedBytes = Int(try integer(UInt32.self, what("stored bytes")))
    let word = try integer(UInt32.self, what("encoding"))
    guard let encoding = UInt8(exactly: word).flatMap(LosslessBlock.Encoding.init(rawValue:)),
      byteCount % encoding.planes == 0
    else {
      throw fault(what("encoding"), at: start + 4, found: "\(word)", expected: "0, 1, 2 or 4")
    }
    let range = encoding == .raw ? byteCount...byteCount : 1...byteCount - 1
    guard range.contains(storedBytes), storedBytes <= limit - offset else {
      let most = min(range.upperBound, limit - offset)
      throw fault(
        what("stored bytes"),
        at: start,
        found: "\(storedBytes)",
        expected: encoding == .raw ? "\(byteCount)" : "1 to \(most)"
      )
    }
    return SessionIndex.Page(
      offset: offset,
      storedBytes: storedBytes,
      encoding: encoding,
      checksum: try checksum(what("checksum"))
    )
  }
}
