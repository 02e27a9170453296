import NibbleFiles
import NibblePolicy

extension SessionIndex {
  /// Reads an index.
  ///
  /// Every number is checked before anything is allocated for it.
  ///
  /// - Parameters:
  ///   - bytes: The index, whose digest was right.
  ///   - superblock: What says where it lies and what is behind it.
  ///   - file: The file's name.
  /// - Throws: ``FileError/invalidField(file:field:offset:found:expected:)``.
  /// - Complexity: O(bytes), and O(n log n) for n pages that do not lie in order.
  init(_ bytes: [UInt8], superblock: SessionSuperblock, file: String) throws(FileError) {
    var reader = SessionReader(bytes, file: file, base: UInt64(superblock.index.lowerBound))
    let head = try Head(&reader)
    shape = try head.shape(&reader)
    libraryVersion = try reader.text(head.versionBytes, "library version")
    let fingerprint = try reader.text(head.fingerprintBytes, "fingerprint")
    if head.flags & Flags.hasFingerprint != 0 { shape.fingerprint = fingerprint }
    policy = try reader.text(head.policyBytes, "policy")
    try reader.pad(to: 4, "padding of the texts")
    plan = try head.plan(&reader)
    tokens = try head.tokens(&reader)
    layers = []
    var dropped = 0
    for layer in 0..<shape.layers {
      layers.append(try layerEntry(layer, limit: superblock.byteCount, &reader))
      dropped += layers[layer].droppedCount
      // Nothing in the file stands for them, but each takes memory.
      guard dropped <= Self.droppedLimit else {
        throw reader.fault(
          "dropped pages up to layer \(layer)",
          at: reader.position,
          found: "\(dropped)",
          expected: "at most \(Self.droppedLimit)"
        )
      }
    }
    guard reader.remaining == 0 else {
      throw reader.fault(
        "end of the index",
        at: reader.position,
        found: "\(reader.remaining) more bytes",
        expected: "none"
      )
    }
    try checkTokens(reader)
    try checkSpace(superblock, file: file)
  }

  private func checkTokens(_ reader: SessionReader) throws(FileError) {
    guard tokens.count <= tokenCount else {
      throw reader.fault(
        "token ids",
        at: 44,
        found: "\(tokens.count)",
        expected: "at most the \(tokenCount) tokens of all layers"
      )
    }
  }

  /// No byte belongs to two pages, or to a page and the index.
  private func checkSpace(_ superblock: SessionSuperblock, file: String) throws(FileError) {
    let index = superblock.index
    var ranges = layers.flatMap { layer in layer.storedPages.map(\.page.range) }
    ranges.append(index.lowerBound..<Self.aligned(index.upperBound))
    ranges.sort { $0.lowerBound < $1.lowerBound }
    for (range, next) in zip(ranges, ranges.dropFirst()) where range.upperBound > next.lowerBound {
      throw .invalidField(
        file: file,
        field: "offset of a page",
        offset: UInt64(index.lowerBound),
        found: "\(next.lowerBound)",
        expected: "\(range.upperBound) or more, behind what lies at \(range.lowerBound)"
      )
    }
  }
}

// MARK: - Head

/// The numbers at the start of an index.
private struct Head {
  var layers, queryHeads, kvHeads, headDim: Int
  var pageTokens, sinks, recent, sinkPageTokens: Int
  var codecCount, exactRows: Int
  var flags: UInt32
  var tokenIDs, versionBytes, fingerprintBytes, policyBytes: Int
  var calibrationDigest: [UInt8]

  init(_ reader: inout SessionReader) throws(FileError) {
    let any = 0...Int(UInt32.max)
    layers = try reader.count(in: 1...ModelShape.layerLimit, "layers")
    queryHeads = try reader.count(in: 1...ModelShape.headLimit, "query heads")
    kvHeads = try reader.count(in: 1...ModelShape.headLimit, "KV heads")
    headDim = try reader.count(in: 8...512, "head dimension")
    pageTokens = try reader.count(in: 16...1024, "tokens of a page")
    sinks = try reader.count(in: 0...1024, "sinks")
    recent = try reader.count(in: 0...65_536, "recent tokens")
    sinkPageTokens = try reader.count(in: 16...1024, "tokens of the sink page")
    codecCount = try reader.count(in: 1...65_536, "codecs")
    exactRows = try reader.count(in: 0...codecCount - 1, "codec of exact rows")
    flags = UInt32(try reader.count(in: 0...Int(SessionIndex.Flags.all), "flags"))
    tokenIDs = try reader.count(in: any, "token ids")
    versionBytes = try reader.count(in: any, "bytes of the library version")
    fingerprintBytes = try reader.count(in: any, "bytes of the fingerprint")
    policyBytes = try reader.count(in: any, "bytes of the policy")
    try reader.zeros(4, "padding of the head")
    let start = reader.position
    calibrationDigest = Array(try reader.take(32, "digest of the calibration"))
    if flags & SessionIndex.Flags.hasCalibration == 0, calibrationDigest.contains(where: { $0 > 0 })
    {
      throw reader.fault("digest of the calibration", at: start, found: "one", expected: "zeros")
    }
    if flags & SessionIndex.Flags.hasFingerprint == 0, fingerprintBytes > 0 {
      throw reader.fault(
        "bytes of the fingerprint",
        at: 52,
        found: "\(fingerprintBytes)",
        expected: "0"
      )
    }
  }

  func shape(_ reader: inout SessionReader) throws(FileError) -> ModelShape {
    var windows: [Int?] = []
    for layer in 0..<layers {
      let range = 0...ModelShape.tokenLimit
      let window = try reader.count(in: range, "sliding window of layer \(layer)")
      windows.append(window == 0 ? nil : window)
    }
    let shape = ModelShape(
      layers: layers,
      queryHeads: queryHeads,
      kvHeads: kvHeads,
      headDim: headDim,
      slidingWindows: windows
    )
    do throws(PolicyError) {
      try shape.validate()
    } catch {
      throw reader.fault("model shape", at: 0, found: "\(error)", expected: "a possible one")
    }
    return shape
  }

  func plan(_ reader: inout SessionReader) throws(FileError) -> SessionIndex.Plan {
    try reader.require(codecCount, of: 4, "lengths of the codecs")
    var lengths: [Int] = []
    for codec in 0..<codecCount {
      lengths.append(try reader.count(in: 1...4096, "length of codec \(codec)"))
    }
    var codecs: [String] = []
    for (codec, length) in lengths.enumerated() {
      codecs.append(try reader.text(length, "codec \(codec)"))
    }
    try reader.pad(to: 4, "padding of the codecs")
    let rungs = try rungs(&reader)
    return SessionIndex.Plan(
      pageTokens: pageTokens,
      sinks: sinks,
      recent: recent,
      sinkPageTokens: sinkPageTokens,
      hasSummaries: flags & SessionIndex.Flags.hasSummaries != 0,
      codecs: codecs,
      exactRows: exactRows,
      rungs: rungs,
      calibrationDigest: flags & SessionIndex.Flags.hasCalibration != 0 ? calibrationDigest : nil
    )
  }

  private func rungs(
    _ reader: inout SessionReader
  ) throws(FileError) -> [[SessionIndex.Plan.Rung]] {
    var counts: [Int] = []
    for layer in 0..<layers {
      let range = 1...SessionIndex.rungLimit
      counts.append(try reader.count(in: range, "rungs of layer \(layer)"))
    }
    var beyond: [[Int]] = []
    for layer in 0..<layers {
      var last: [Int] = []
      for rung in 0..<counts[layer] {
        let range = rung == 0 ? 0...0 : 1...ModelShape.tokenLimit
        let age = try reader.count(in: range, "age of layer \(layer)")
        guard age > last.last ?? -1 else {
          throw reader.fault(
            "age of layer \(layer)",
            at: reader.position - 4,
            found: "\(age)",
            expected: "more than \(last[rung - 1])"
          )
        }
        last.append(age)
      }
      beyond.append(last)
    }
    var rungs: [[SessionIndex.Plan.Rung]] = []
    for layer in 0..<layers {
      var ladder: [SessionIndex.Plan.Rung] = []
      for age in beyond[layer] {
        let strips = try strips(&reader)
        ladder.append(SessionIndex.Plan.Rung(beyond: age, strips: strips))
      }
      rungs.append(ladder)
    }
    return rungs
  }

  private func strips(_ reader: inout SessionReader) throws(FileError) -> [UInt16] {
    try reader.require(2 * kvHeads, of: 2, "codecs of the strips")
    var strips: [UInt16] = []
    for strip in 0..<2 * kvHeads {
      let codec = try reader.integer(UInt16.self, "codec of a strip")
      guard Int(codec) < codecCount else {
        throw reader.fault(
          "codec of strip \(strip)",
          at: reader.position - 2,
          found: "\(codec)",
          expected: "0 to \(codecCount - 1)"
        )
      }
      strips.append(codec)
    }
    return strips
  }

  func tokens(_ reader: inout SessionReader) throws(FileError) -> [Int32] {
    try reader.require(tokenIDs, of: 4, "token ids")
    var tokens: [Int32] = []
    tokens.reserveCapacity(tokenIDs)
    for token in 0..<tokenIDs {
      let id = try reader.integer(Int32.self, "token ids")
      guard id >= 0 else {
        throw reader.fault(
          "id of token \(token)",
          at: reader.position - 4,
          found: "\(id)",
          expected: "0 to \(Int32.max)"
        )
      }
      tokens.append(id)
    }
    return tokens
  }
}

// MARK: - Layers

extension SessionIndex {
  private func layerEntry(
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
