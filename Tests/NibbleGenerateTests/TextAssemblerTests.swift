import NibbleGenerate
import Testing

@Suite("Text from bytes of tokens")
struct TextAssemblerTests {
  private func pieces(_ bytes: [UInt8], cut: Int) -> [String] {
    var assembler = TextAssembler()
    var pieces: [String] = []
    for start in stride(from: 0, to: bytes.count, by: cut) {
      pieces.append(assembler.append(Array(bytes[start..<min(start + cut, bytes.count)])))
    }
    return pieces + [assembler.finish()]
  }

  @Test("Characters are never cut", arguments: 1...5)
  func whole(cut: Int) {
    let text = "a é 港 🚢 👩‍🚀 z"
    let pieces = pieces(Array(text.utf8), cut: cut)
    #expect(pieces.joined().utf8.elementsEqual(text.utf8))
    #expect(!pieces.contains { $0.unicodeScalars.contains("\u{FFFD}") })
    #expect(pieces.last == "")
  }

  @Test("Random bytes become what decoding them at once gives", arguments: 0..<200 as Range<UInt64>)
  func random(seed: UInt64) {
    // Bytes that are likely to begin or continue sequences.
    let alphabet: [UInt8] = [
      0x41, 0x80, 0xBF, 0x9F, 0xA0, 0xC0, 0xC3, 0xE0, 0xE6, 0xED, 0xF0, 0xF4, 0xFF,
    ]
    var generator = SplitMix64(seed: seed)
    let bytes = (0..<40).map { _ in
      alphabet[Int.random(in: 0..<alphabet.count, using: &generator)]
    }
    let text = String(decoding: bytes, as: UTF8.self)
    #expect(pieces(bytes, cut: 1 + Int(seed % 4)).joined().utf8.elementsEqual(text.utf8))
  }
}
