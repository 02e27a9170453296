/// Turns text into token ids and back.
public protocol TextTokenizer: Sendable {
  /// Token ids of a text, with the tokens that the model expects around it (such as a begin
  /// token).
  ///
  /// - Throws: An error of the tokenizer if the text cannot be encoded.
  func encode(_ text: String) throws -> [Int]

  /// The UTF-8 bytes that a token stands for; empty for special tokens and unknown ids.
  ///
  /// The bytes of one token need not be whole characters: see ``TextAssembler``.
  func bytes(of id: Int) -> [UInt8]

  /// Tokens that end a text.
  var endTokens: Set<Int> { get }
}

extension TextTokenizer {
  /// The text of the ids; special tokens have none, and invalid UTF-8 becomes U+FFFD.
  public func decode(_ ids: [Int]) -> String {
    String(decoding: ids.flatMap(bytes(of:)), as: UTF8.self)
  }
}

/// Joins the bytes of tokens to text without ever cutting a character in two.
///
/// A token may end inside a UTF-8 sequence. Its first bytes wait here until the rest comes, so the
/// pieces together are what decoding all bytes at once would give.
public struct TextAssembler: Sendable {
  private var pending: [UInt8] = []

  /// Creates an assembler that waits for nothing.
  public init() {}

  /// Takes a token's bytes and returns the text that is complete with them.
  public mutating func append(_ bytes: [UInt8]) -> String {
    pending += bytes
    let complete = pending.count - Self.incompleteSuffixLength(pending)
    defer { pending.removeFirst(complete) }
    return String(decoding: pending[..<complete], as: UTF8.self)
  }

  /// Returns what still waits, with U+FFFD in place of an unfinished character.
  public mutating func finish() -> String {
    defer { pending = [] }
    return String(decoding: pending, as: UTF8.self)
  }

  /// How many bytes at the end belong to a sequence that more bytes could complete.
  private static func incompleteSuffixLength(_ bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
      let byte = bytes[bytes.count - length]
      if byte & 0b1100_0000 == 0b1000_0000 { continue }
      let sequenceLength =
        switch byte {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 1
        }
      return length < sequenceLength ? length : 0
    }
    return 0
  }
}
