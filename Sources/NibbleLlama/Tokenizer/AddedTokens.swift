/// Finds added tokens in a text: the longest at the leftmost place.
struct AddedTokens: Sendable {
  /// A part of a text.
  enum Piece: Hashable, Sendable {
    case text(String)
    case token(Int)
  }

  private struct Token: Sendable {
    var id: Int
    var bytes: [UInt8]
    var isWord: Bool
    var stripsLeft: Bool
    var stripsRight: Bool
  }

  /// By first byte, longest first.
  private var tokens: [UInt8: [Token]] = [:]

  /// Takes tokens that are looked for in text after `normalize` has been applied to it.
  init(_ files: [AddedTokenFile], normalize: (String) -> String) {
    for file in files {
      let bytes = Array(normalize(file.content).utf8)
      guard let first = bytes.first else { continue }
      let token = Token(
        id: file.id,
        bytes: bytes,
        isWord: file.isWord ?? false,
        stripsLeft: file.stripsLeft ?? false,
        stripsRight: file.stripsRight ?? false
      )
      tokens[first, default: []].append(token)
    }
    for first in tokens.keys {
      tokens[first]?.sort { ($1.bytes.count, $0.id) < ($0.bytes.count, $1.id) }
    }
  }

  /// Cuts the text at its added tokens; pieces of text are not empty.
  func split(_ text: String) -> [Piece] {
    guard !tokens.isEmpty else { return text.isEmpty ? [] : [.text(text)] }
    let bytes = Array(text.utf8)
    var pieces: [Piece] = []
    var done = 0
    var index = 0
    let close = { (end: Int) in
      if done < end { pieces.append(.text(String(decoding: bytes[done..<end], as: UTF8.self))) }
    }
    while index < bytes.count {
      guard
        let token = tokens[bytes[index]]?.first(where: { bytes[index...].starts(with: $0.bytes) })
      else {
        index += 1
        continue
      }
      var range = index..<index + token.bytes.count
      index = range.upperBound
      if token.isWord, Self.touchesWord(bytes, range) { continue }
      if token.stripsLeft { range = Self.extendLeft(bytes, range, limit: done) }
      if token.stripsRight { range = Self.extendRight(bytes, range) }
      close(range.lowerBound)
      pieces.append(.token(token.id))
      done = range.upperBound
      index = max(index, done)
    }
    close(bytes.count)
    return pieces
  }

  private static func touchesWord(_ bytes: [UInt8], _ range: Range<Int>) -> Bool {
    let before = String(decoding: bytes[..<range.lowerBound].suffix(4), as: UTF8.self)
    let after = String(decoding: bytes[range.upperBound...].prefix(4), as: UTF8.self)
    return before.unicodeScalars.last.map(isWordScalar) ?? false
      || after.unicodeScalars.first.map(isWordScalar) ?? false
  }

  /// What `\w` matches.
  private static func isWordScalar(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: true
    default: scalar.properties.isAlphabetic || scalar.properties.isJoinControl
    }
  }

  private static func extendLeft(
    _ bytes: [UInt8],
    _ range: Range<Int>,
    limit: Int
  ) -> Range<Int> {
    let before = String(decoding: bytes[limit..<range.lowerBound], as: UTF8.self).unicodeScalars
    let spaces = before.reversed().prefix { $0.properties.isWhitespace }
    let length = spaces.reduce(0) { $0 + UTF8.width($1) }
    return range.lowerBound - length..<range.upperBound
  }

  private static func extendRight(_ bytes: [UInt8], _ range: Range<Int>) -> Range<Int> {
    let after = String(decoding: bytes[range.upperBound...], as: UTF8.self).unicodeScalars
    let length = after.prefix { $0.properties.isWhitespace }.reduce(0) { $0 + UTF8.width($1) }
    return range.lowerBound..<range.upperBound + length
  }
}
