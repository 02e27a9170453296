/// The alphabet of byte-level vocabularies: a printable character for each byte, as GPT-2 chose them.
enum ByteAlphabet {
  /// The bytes that a vocabulary entry stands for; nil if it has a character outside the alphabet.
  static func bytes(of text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      let value = Int(scalar.value)
      guard value < byteOfScalar.count, let byte = byteOfScalar[value] else { return nil }
      bytes.append(byte)
    }
    return bytes
  }

  /// The byte of each character's code point.
  ///
  /// Bytes that print as themselves in Latin-1 stay; the others follow from U+0100 on.
  private static let byteOfScalar: [UInt8?] = {
    var table = [UInt8?](repeating: nil, count: 0x144)
    var next = 0x100
    for byte in 0...255 {
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF:
        table[byte] = UInt8(byte)
      default:
        table[next] = UInt8(byte)
        next += 1
      }
    }
    return table
  }()
}
