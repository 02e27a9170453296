import Foundation
import NibbleKV
import Testing

/// Rows and outputs that `Integrations/C/rows.c` has written through the C interface; `check-logits.sh` beside it names their folder.
@Suite(.enabled(if: RowsFile.folder != nil, "NIBBLE_ROWS names no folder"))
struct OtherHostsTests {
  @Test func attentionIsThatOfTheCInterface() throws {
    let folder = try #require(RowsFile.folder)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).filter {
      $0.hasSuffix(".rows")
    }
    #expect(names.count == 8)
    for name in names { try check(RowsFile(path: "\(folder)/\(name)")) }
  }

  private func check(_ file: RowsFile) throws {
    var file = file
    let shape = file.shape
    let cache = try KVCache(model: shape, policy: Policy(argument: file.policy))
    let sequence = cache.makeSequence()
    for tokens in file.steps {
      for layer in 0..<shape.layers {
        let queries = file.next(tokens * shape.queryHeads * shape.headDim)
        let keys = file.next(tokens * shape.kvHeads * shape.headDim)
        let values = file.next(tokens * shape.kvHeads * shape.headDim)
        let expected = file.next(queries.count)
        var output = [Float](repeating: 0, count: queries.count)
        try sequence.append(keys: keys.span, values: values.span, layer: layer)
        var rows = output.mutableSpan
        try sequence.attend(queries: queries.span, layer: layer, options: file.options, into: &rows)
        // Not in the expectation itself, which would print all numbers.
        let isSame = output.map(\.bitPattern) == expected.map(\.bitPattern)
        #expect(isSame, "\(file.policy): \(tokens) tokens of layer \(layer)")
      }
    }
    #expect(file.isAtEnd)
  }
}

/// A file of `rows.c`: a line of words, then floats.
private struct RowsFile {
  static let folder = ProcessInfo.processInfo.environment["NIBBLE_ROWS"]

  let policy: String
  let shape: ModelShape
  let options: AttentionOptions
  let steps: [Int]
  private let floats: [Float]
  private var place = 0

  init(path: String) throws {
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    let end = try #require(data.firstIndex(of: UInt8(ascii: "\n")))
    let words = String(decoding: data[..<end], as: UTF8.self).split(separator: " ").map(String.init)
    let numbers = try words.dropFirst().map { try #require(Float($0)) }
    policy = words[0]
    shape = ModelShape(
      layers: Int(numbers[0]),
      queryHeads: Int(numbers[1]),
      kvHeads: Int(numbers[2]),
      headDim: Int(numbers[3])
    )
    options = AttentionOptions(
      scale: numbers[4] == 0 ? nil : numbers[4],
      window: numbers[5] == 0 ? nil : Int(numbers[5]),
      softCap: numbers[6] == 0 ? nil : numbers[6]
    )
    steps = numbers.dropFirst(7).map { Int($0) }
    floats = data[(end + 1)...].withUnsafeBytes { bytes in
      (0..<bytes.count / 4).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
    }
  }

  var isAtEnd: Bool { place == floats.count }

  mutating func next(_ count: Int) -> [Float] {
    defer { place += count }
    return Array(floats[place..<place + count])
  }
}
