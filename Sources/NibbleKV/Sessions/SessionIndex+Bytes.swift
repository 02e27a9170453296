import NibblePolicy

extension SessionIndex {
  static let headBytes = 96
  /// Most rungs of a layer.
  static let rungLimit = 5
  static let pageBytes = 16 + PageChecksum.byteCount

  /// Bits of the word `flags` of the head.
  enum Flags {
    static let hasSummaries: UInt32 = 1
    static let hasCalibration: UInt32 = 2
    static let hasFingerprint: UInt32 = 4
    static let all: UInt32 = 7
  }

  /// Bits of the word `flags` of a layer.
  enum LayerFlags {
    static let hasSinkPage: UInt32 = 1
    static let hasMeans: UInt32 = 2
    static let all: UInt32 = 3
  }

  /// The index as it is written.
  var bytes: [UInt8] {
    var writer = SessionWriter()
    appendHead(to: &writer)
    for window in shape.slidingWindows { writer.append(UInt32(window ?? 0)) }
    for text in [libraryVersion, shape.fingerprint ?? "", policy] {
      writer.append(contentsOf: text.utf8)
    }
    writer.pad(to: 4)
    for codec in plan.codecs { writer.append(UInt32(codec.utf8.count)) }
    for codec in plan.codecs { writer.append(contentsOf: codec.utf8) }
    writer.pad(to: 4)
    for rungs in plan.rungs { writer.append(UInt32(rungs.count)) }
    for rung in plan.rungs.joined() { writer.append(UInt32(rung.beyond)) }
    for rung in plan.rungs.joined() {
      for strip in rung.strips { writer.append(strip) }
    }
    for token in tokens { writer.append(token) }
    for layer in layers { Self.append(layer, to: &writer) }
    return writer.bytes
  }

  private func appendHead(to writer: inout SessionWriter) {
    var flags: UInt32 = 0
    if plan.hasSummaries { flags |= Flags.hasSummaries }
    if plan.calibrationDigest != nil { flags |= Flags.hasCalibration }
    if shape.fingerprint != nil { flags |= Flags.hasFingerprint }
    let numbers = [
      shape.layers, shape.queryHeads, shape.kvHeads, shape.headDim, plan.pageTokens, plan.sinks,
      plan.recent, plan.sinkPageTokens, plan.codecs.count, plan.exactRows, Int(flags), tokens.count,
      libraryVersion.utf8.count, shape.fingerprint?.utf8.count ?? 0, policy.utf8.count, 0,
    ]
    for number in numbers { writer.append(UInt32(number)) }
    writer.append(contentsOf: plan.calibrationDigest ?? Array(repeating: 0, count: 32))
  }

  private static func append(_ layer: Layer, to writer: inout SessionWriter) {
    var flags: UInt32 = 0
    if layer.sinkPage != nil { flags |= LayerFlags.hasSinkPage }
    if layer.means != nil { flags |= LayerFlags.hasMeans }
    let numbers =
      [
        layer.tokenCount, layer.pageCount, layer.sealedCount, layer.droppedCount,
        layer.means?.frames.count ?? 0, Int(flags), layer.pageBytes.exact, layer.pageBytes.sink,
      ] + layer.pageBytes.sealed + layer.agedCounts
    for number in numbers { writer.append(UInt32(number)) }
    for (_, page) in layer.storedPages {
      writer.append(UInt64(page.offset))
      writer.append(UInt32(page.storedBytes))
      writer.append(UInt32(page.encoding.rawValue))
      writer.append(page.checksum)
    }
    guard let means = layer.means else { return }
    for strip in means.strips {
      writer.append([strip.pages])
      writer.append(strip.sums)
      writer.append(strip.squares)
    }
    for frame in means.frames {
      writer.append(UInt32(frame.firstPage))
      for vector in frame.vectors { writer.append(vector) }
    }
  }
}
