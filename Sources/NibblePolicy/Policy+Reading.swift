internal import Foundation
public import NibbleCodec

extension Policy {
  /// Reads a policy from YAML or JSON text.
  ///
  /// - Parameters:
  ///   - yaml: The text, at most ``fileByteLimit`` bytes.
  ///   - file: The name that errors and reasons give to the text.
  ///   - catalogue: The codecs that may be named.
  /// - Throws: ``PolicyError`` with line, column, and the nearest valid word.
  public init(
    yaml: String,
    file: String? = nil,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) {
    self = try PolicyReader(file: file, catalogue: catalogue).policy(from: yaml)
  }

  /// Reads a policy from a YAML or JSON file.
  ///
  /// - Parameters:
  ///   - path: The file, at most ``fileByteLimit`` bytes of UTF-8.
  ///   - catalogue: The codecs that may be named.
  /// - Throws: ``PolicyError`` with file, line, column, and the nearest valid word.
  public init(
    contentsOf path: String,
    catalogue: CodecCatalogue = .standard
  ) throws(PolicyError) {
    let data: Data
    do {
      let handle = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
      defer { try? handle.close() }
      data = try handle.read(upToCount: Self.fileByteLimit + 1) ?? Data()
    } catch {
      throw PolicyError(
        "the policy cannot be read: \(error.localizedDescription)",
        advice: "name a file that exists and may be read",
        file: path
      )
    }
    guard data.count <= Self.fileByteLimit else {
      throw PolicyError(Self.tooLong(bytes: nil), at: SourceMark(line: 1, column: 1), of: path)
    }
    guard let text = String(bytes: data, encoding: .utf8) else {
      throw PolicyError(
        "the policy is not UTF-8 text",
        advice: "save the file as UTF-8",
        at: Self.endOfText(in: data),
        of: path
      )
    }
    try self.init(yaml: text, file: path, catalogue: catalogue)
  }

  /// Text of so many bytes; a file is not read to its end to count them.
  static func tooLong(bytes: Int?) -> Problem {
    (
      bytes.map { "the policy has \($0) bytes; expected at most \(fileByteLimit)" }
        ?? "the policy has more than \(fileByteLimit) bytes",
      nil,
      "a policy needs a few lines; is this the right file?"
    )
  }

  /// The place of the first byte that is not UTF-8.
  private static func endOfText(in data: Data) -> SourceMark {
    var bytes = data.makeIterator()
    var decoder = UTF8()
    var scalars = String.UnicodeScalarView()
    while case .scalarValue(let scalar) = decoder.decode(&bytes) { scalars.append(scalar) }
    return SourceMark(behind: scalars)
  }
}
