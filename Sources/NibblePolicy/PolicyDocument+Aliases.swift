/// Aliases of aliases can stand for more nodes than any machine has.
extension PolicyDocument {
  /// Refuses text whose aliases, written out, would be longer than a file may be.
  ///
  /// Looks for everything that could be an anchor or an alias, in comments and quotes too, so what it adds up is never too little. An anchored
  /// value ends before the first alias to it.
  ///
  /// - Complexity: O(bytes).
  func checkAliases(in yaml: String) throws(PolicyError) {
    let bytes = yaml.utf8
    guard bytes.contains(UInt8(ascii: "*")) else { return }
    var anchors: [Substring: Anchor] = [:]
    var aliasBytes = 0
    var index = bytes.startIndex
    while let sign = bytes[index...].firstIndex(where: { Self.isSign($0) }) {
      let start = bytes.index(after: sign)
      let end = bytes[start...].firstIndex { !Self.isNameByte($0) } ?? bytes.endIndex
      index = end
      guard start < end else { continue }
      let name = yaml[start..<end]
      let written = bytes.distance(from: bytes.startIndex, to: sign) + aliasBytes
      if bytes[sign] == UInt8(ascii: "&") {
        var anchor = anchors[name] ?? Anchor()
        anchor.start = anchor.start ?? written
        anchors[name] = anchor
      } else if var anchor = anchors[name] {
        if let start = anchor.start { anchor.byteCount = max(anchor.byteCount, written - start) }
        anchor.start = nil
        anchors[name] = anchor
        aliasBytes += anchor.byteCount
      }
      guard bytes.count + aliasBytes <= Policy.fileByteLimit else {
        throw PolicyError(
          "the policy has more than \(Policy.fileByteLimit) bytes with its aliases written out",
          advice: "use fewer aliases of values that hold aliases",
          at: SourceMark(behind: yaml.unicodeScalars[..<sign]),
          of: file
        )
      }
    }
  }

  private struct Anchor {
    /// Where its value begins, if no alias has been seen since, counted with aliases written out.
    var start: Int?
    /// The most that its value takes, written out.
    var byteCount = 0
  }

  private static func isSign(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: "&") || byte == UInt8(ascii: "*")
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"), UInt8(ascii: "-"):
      true
    default: false
    }
  }
}
