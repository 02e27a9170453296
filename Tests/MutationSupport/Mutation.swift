/// Seeded changes to files that readers must survive.
package enum Mutation {
  /// Changes one to four bytes of a range: a bit of each, or all of it to anything, to ones or to zeros.
  package static func change(
    _ bytes: inout [UInt8],
    in range: Range<Int>,
    using random: inout some RandomNumberGenerator
  ) {
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let at = Int.random(in: range, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 2: bytes[at] = 0xff
      default: bytes[at] = 0
      }
    }
  }

  /// Makes a file shorter, or up to 200 bytes longer.
  package static func cut(
    _ bytes: inout [UInt8],
    using random: inout some RandomNumberGenerator
  ) {
    let count = Int.random(in: 0..<bytes.count + 200, using: &random)
    bytes = Array(bytes.prefix(count))
    bytes += Array(repeating: 1, count: count - bytes.count)
  }

  /// Changes one to three places of a text: a mark, a number or a stretch takes the place of another, goes, or comes twice.
  package static func changeText(
    _ bytes: inout [UInt8],
    in range: Range<Int>,
    using random: inout some RandomNumberGenerator
  ) {
    var end = range.upperBound
    for _ in 0..<Int.random(in: 1...3, using: &random) where end > range.lowerBound {
      let start = Int.random(in: range.lowerBound..<end, using: &random)
      let stretch = start..<min(end, start + Int.random(in: 1...20, using: &random))
      let count = bytes.count
      switch Int.random(in: 0..<8, using: &random) {
      case 0: bytes[start] = marks.randomElement(using: &random) ?? 0
      case 1: bytes.insert(marks.randomElement(using: &random) ?? 0, at: start)
      case 2: bytes.removeSubrange(stretch)
      case 3: bytes.insert(contentsOf: bytes[stretch], at: start)
      case 4: bytes[start] = UInt8.random(in: 32...127, using: &random)
      default: changeNumber(&bytes, in: start..<end, using: &random)
      }
      end += bytes.count - count
    }
  }

  /// Puts another number in the place of the next one.
  private static func changeNumber(
    _ bytes: inout [UInt8],
    in range: Range<Int>,
    using random: inout some RandomNumberGenerator
  ) {
    let isDigit = { (byte: UInt8) in (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
    guard let first = bytes[range].firstIndex(where: isDigit) else { return }
    let end = bytes[first..<range.upperBound].firstIndex { !isDigit($0) } ?? range.upperBound
    let number = numbers.randomElement(using: &random) ?? ""
    bytes.replaceSubrange(first..<end, with: Array(number.utf8))
  }

  private static let marks = Array(":-[]{}#&*!|>'\"%@`,.\n\t 09az\\".utf8)
  private static let numbers = [
    "0", "-1", "1", "65536", "4294967295", "4294967296", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "1e308", "0.5", "1000000000", "[[[[", "null",
    "2", "3", "4", "8", "16", "64", "100",
  ]
}
