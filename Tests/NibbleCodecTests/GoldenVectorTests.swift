import Foundation
import NibbleCodec
import Testing

/// The files of Specs/vectors, which another implementation can be checked against too.
///
/// With `NIBBLE_WRITE_VECTORS=1` in the environment the bytes and the decoded rows are written anew
/// from the rows and cases that the files have.
@Suite struct GoldenVectorTests {
  static let names = ["16x8", "16x24", "16x64", "48x24", "64x64", "64x80", "128x8", "128x40"]

  @Test(arguments: names)
  func encodesAndDecodes(name: String) throws {
    var file = try VectorFile(name: name)
    #expect(file.version == 1)
    if ProcessInfo.processInfo.environment["NIBBLE_WRITE_VECTORS"] == "1" {
      for index in file.cases.indices { try file.fill(index) }
      try file.write(name: name)
    }
    for vector in file.cases {
      let text: Comment = "\(name): \(vector.codec), \(vector.side)"
      let codec = try vector.codec(of: file)
      let mean = vector.mean(of: file)
      let rows = file.rows.flatMap(Hexadecimal.floats)
      #expect(vector.bytes.count == codec.bytes.total, text)
      let encoded = try codec.encode(rows.span, mean: mean)
      #expect(encoded == vector.bytes, text)
      let decoded = try codec.decode(vector.bytes, mean: mean)
      #expect(vector.shown(of: decoded, headDim: file.headDim) == vector.decoded, text)
    }
  }

  @Test func everyFileIsListed() throws {
    let files = try FileManager.default.contentsOfDirectory(atPath: VectorFile.folder.path)
    let names = files.filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }
    #expect(names.sorted() == Self.names.sorted())
  }
}

/// Rows of one shape and what each codec makes of them.
private struct VectorFile: Decodable {
  var version: Int
  var headDim: Int
  var pageTokens: Int
  var rows: [String]
  var mean: String
  var cases: [Vector]

  struct Vector: Decodable {
    var codec: String
    /// With `rotation=aligned` or `shaping=queries`: a file of the folder `transforms`.
    var transform: String?
    var side: KVSide
    var codes: [String]
    var sideData: [String]
    var decodedTokens: [Int]
    var decoded: [String]
  }

  static let folder = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Specs/vectors")

  init(name: String) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let data = try Data(contentsOf: Self.folder.appending(path: "\(name).json"))
    self = try decoder.decode(Self.self, from: data)
  }

  /// Encodes and decodes a case.
  mutating func fill(_ index: Int) throws {
    var vector = cases[index]
    let codec = try vector.codec(of: self)
    let mean = vector.mean(of: self)
    let values = rows.flatMap(Hexadecimal.floats)
    let bytes = try codec.encode(values.span, mean: mean)
    vector.codes = Hexadecimal.lines(bytes.prefix(codec.bytes.codes))
    vector.sideData = Hexadecimal.lines(bytes.dropFirst(codec.bytes.codes))
    vector.decoded = vector.shown(of: try codec.decode(bytes, mean: mean), headDim: headDim)
    cases[index] = vector
  }

  /// Writes the file, one row or 64 bytes a line.
  func write(name: String) throws {
    let cases = cases.map { vector in
      let transform = vector.transform.map { "\n   \"transform\": \"\($0)\"," } ?? ""
      return """
          {
           "codec": "\(vector.codec)",\(transform)
           "side": "\(vector.side.rawValue)",
           "codes": \(list(vector.codes, indent: 3)),
           "side_data": \(list(vector.sideData, indent: 3)),
           "decoded_tokens": \(vector.decodedTokens),
           "decoded": \(list(vector.decoded, indent: 3))
          }
        """
    }
    let text = """
      {
       "version": \(version),
       "head_dim": \(headDim),
       "page_tokens": \(pageTokens),
       "rows": \(list(rows, indent: 1)),
       "mean": "\(mean)",
       "cases": [
      \(cases.joined(separator: ",\n"))
       ]
      }

      """
    try Data(text.utf8).write(to: Self.folder.appending(path: "\(name).json"))
  }

  private func list(_ lines: [String], indent: Int) -> String {
    guard !lines.isEmpty else { return "[]" }
    let space = String(repeating: " ", count: indent)
    return "[\n" + lines.map { "\(space) \"\($0)\"" }.joined(separator: ",\n") + "\n\(space)]"
  }
}

/// A calibrated transform that cases name.
private struct TransformFile: Decodable {
  var headDim: Int
  var mean: String
  var weights: String
  var analysis: [String]
  var synthesis: [String]

  static func transform(named name: String) throws -> RowTransform {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let data = try Data(contentsOf: VectorFile.folder.appending(path: "transforms/\(name).json"))
    let file = try decoder.decode(Self.self, from: data)
    return try RowTransform(
      headDim: file.headDim,
      mean: Hexadecimal.floats(file.mean),
      analysis: file.analysis.flatMap(Hexadecimal.floats),
      synthesis: file.synthesis.flatMap(Hexadecimal.floats),
      weights: Hexadecimal.floats(file.weights)
    )
  }
}

extension VectorFile.Vector {
  fileprivate func codec(of file: VectorFile) throws -> StripCodec {
    let words = codec.split(separator: " ").map(String.init)
    var description = try CodecDescription(parsing: words[0])
    for option in words.dropFirst() {
      let parts = option.split(separator: "=").map(String.init)
      try description.set(option: parts[0], to: parts[1])
    }
    return try StripCodec(
      description,
      side: side,
      headDim: file.headDim,
      pageTokens: file.pageTokens,
      transform: try transform.map(TransformFile.transform)
    )
  }

  /// The mean that the case removes, if it does.
  fileprivate func mean(of file: VectorFile) -> [Float]? {
    codec.contains("mean=removed") ? Hexadecimal.floats(file.mean) : nil
  }

  var bytes: [UInt8] { (codes + sideData).flatMap(Hexadecimal.bytes) }

  /// The decoded rows that the file shows, as bit patterns: equal zeros of unlike sign are not equal here.
  func shown(of decoded: [Float], headDim: Int) -> [String] {
    decodedTokens.map { token in
      Hexadecimal.text(decoded[token * headDim..<(token + 1) * headDim])
    }
  }
}

private enum Hexadecimal {
  static func bytes(_ text: String) -> [UInt8] {
    let digits = text.utf8.map { UInt8($0 < 0x3a ? $0 - 0x30 : $0 - 0x57) }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
  }

  /// Each value as the eight digits of its bit pattern.
  static func floats(_ text: String) -> [Float] {
    let bytes = bytes(text)
    return stride(from: 0, to: bytes.count, by: 4).map { index in
      Float(bitPattern: bytes[index..<index + 4].reduce(0) { $0 << 8 | UInt32($1) })
    }
  }

  static func text(_ values: ArraySlice<Float>) -> String {
    text(
      values.flatMap { value in
        (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> UInt32(24 - 8 * $0)) }
      }
    )
  }

  /// Lines of 64 bytes.
  static func lines(_ bytes: ArraySlice<UInt8>) -> [String] {
    stride(from: bytes.startIndex, to: bytes.endIndex, by: 64).map { start in
      text(Array(bytes[start..<min(start + 64, bytes.endIndex)]))
    }
  }

  private static func text(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }
}
