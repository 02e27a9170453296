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
      throw PolicyError("the policy cannot be read: \(error.localizedDescription)", file: path)
    }
    guard data.count <= Self.fileByteLimit else {
      throw PolicyError("the policy has more than \(Self.fileByteLimit) bytes", file: path)
    }
    guard let text = String(bytes: data, encoding: .utf8) else {
      throw PolicyError("the policy is not UTF-8 text", file: path)
    }
    try self.init(yaml: text, file: path, catalogue: catalogue)
  }
}
