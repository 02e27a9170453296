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
      let range = 0...min(codecCount - 1, Int(UInt16.max))
      let codec = try reader.integer(UInt16.self, in: range, "codec of strip \(strip)")
      strips.append(UInt16(codec))
    }
    return strips
  }

  func tokens(_ reader: inout SessionReader) throws(FileError) -> [Int32] {
    try reader.require(tokenIDs, of: 4, "token ids")
    var tokens: [Int32] = []
    tokens.reserveCapacity(tokenIDs)
    for token in 0..<tokenIDs {
      let id = try reader.integer(Int32.self, in: 0...Int(Int32.max), "id of token \(token)")
      tokens.append(Int32(id))
    }
    return tokens
  }
}
