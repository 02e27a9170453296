import Foundation

/// A safetensors file whose header was checked: every byte of the data belongs to exactly one tensor, and every tensor has the
/// bytes that its shape asks for.
///
/// Tensors are read when they are asked for, not mapped: whoever shortens a mapped file ends the process that reads it.
package final class SafetensorsFile: Sendable {
  /// A tensor of the file.
  package struct Tensor: Sendable {
    package let name: String
    package let element: TensorElement
    package let shape: [Int]
    /// Where its bytes lie in the file.
    package let byteRange: Range<Int>
  }

  /// The longest header that the format allows, in bytes.
  package static let headerLimit: UInt64 = 100_000_000

  /// The file's name without its folder, for messages.
  package let name: String
  package let tensors: [String: Tensor]
  /// The free-form words of the header.
  package let metadata: [String: String]
  private let file: PageFile

  /// Opens a file, and reads and checks its header.
  ///
  /// - Throws: ``FileError`` that says what is wrong and where.
  package init(path: String, calls: FileCalls = .system) throws(FileError) {
    let (file, status) = try PageFile.input(path: path, calls: calls)
    self.file = file
    name = file.name
    let dataStart = try Self.dataStart(file, byteCount: status.byteCount)
    let header = try decodeJSON(
      Header.self,
      from: Data(file.bytes(8..<dataStart)),
      file: file.name
    )
    var tensors: [String: Tensor] = [:]
    tensors.reserveCapacity(header.entries.count)
    for (name, entry) in header.entries {
      let fault = { (reason: String) in
        FileError.invalidTensor(file: file.name, tensor: name, reason: reason)
      }
      tensors[name] = try entry.tensor(
        name: name,
        dataStart: dataStart,
        fileByteCount: status.byteCount,
        fault: fault
      )
    }
    self.tensors = tensors
    metadata = header.metadata
    try Self.checkCoverage(
      tensors,
      data: dataStart..<status.byteCount,
      file: file.name
    )
  }

  /// The numbers that lie in bytes of the file, for example those of a tensor.
  ///
  /// - Throws: ``FileError`` if the file cannot be read or has become shorter.
  package func values<Value: BitwiseCopyable>(
    _ range: Range<Int>
  ) throws(FileError) -> [Value] { try file.values(range) }

  /// Where the data begins: 8 bytes of length, then the header.
  private static func dataStart(
    _ file: PageFile,
    byteCount: Int
  ) throws(FileError) -> Int {
    let byteCount = UInt64(byteCount)
    guard byteCount >= 8 else {
      throw .truncated(file: file.name, byteCount: byteCount, needed: 8)
    }
    let start = try file.bytes(0..<8)
    let headerLength = start.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard headerLength <= headerLimit else {
      throw .tooLong(
        file: file.name,
        what: "header",
        byteCount: headerLength,
        limit: headerLimit
      )
    }
    guard headerLength <= byteCount - 8 else {
      throw .truncated(file: file.name, byteCount: byteCount, needed: headerLength + 8)
    }
    guard headerLength > 0, try file.bytes(8..<9) == [UInt8(ascii: "{")] else {
      throw .invalidJSON(file: file.name, reason: "the header does not begin with '{'")
    }
    return 8 + Int(headerLength)
  }

  private static func checkCoverage(
    _ tensors: [String: Tensor],
    data: Range<Int>,
    file: String
  ) throws(FileError) {
    var end = data.lowerBound
    let byOffset = tensors.values.sorted {
      ($0.byteRange.lowerBound, $0.byteRange.upperBound)
        < ($1.byteRange.lowerBound, $1.byteRange.upperBound)
    }
    let hole = { (next: Int) in
      FileError.hole(file: file, offset: end - data.lowerBound, next: next - data.lowerBound)
    }
    for tensor in byOffset {
      let range = tensor.byteRange
      guard range.lowerBound >= end else {
        throw .invalidTensor(
          file: file,
          tensor: tensor.name,
          reason: "its bytes overlap another tensor's"
        )
      }
      guard range.lowerBound == end else { throw hole(range.lowerBound) }
      end = range.upperBound
    }
    guard end == data.upperBound else { throw hole(data.upperBound) }
  }
}

/// The header as it is written.
private struct Header: Decodable {
  /// The metadata of the file stands among its tensors.
  static let metadataKey = "__metadata__"

  var entries: [String: Entry] = [:]
  var metadata: [String: String] = [:]

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    for key in container.allKeys {
      if key.stringValue == Self.metadataKey {
        // Words that other programs wrote are no business of ours: what is not text is passed over.
        metadata = (try? container.decode([String: String].self, forKey: key)) ?? [:]
      } else {
        entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
      }
    }
  }

  struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  struct Entry: Decodable {
    var dtype: String
    var shape: [Int]
    var offsets: [Int]

    private enum CodingKeys: String, CodingKey {
      case dtype
      case shape
      case offsets = "data_offsets"
    }

    /// Checks the entry against itself and the file.
    func tensor(
      name: String,
      dataStart: Int,
      fileByteCount: Int,
      fault: (String) -> FileError
    ) throws(FileError) -> SafetensorsFile.Tensor {
      guard let element = TensorElement(rawValue: dtype) else {
        throw fault("unknown element type '\(dtype)'")
      }
      guard offsets.count == 2, offsets[0] >= 0, offsets[0] <= offsets[1] else {
        throw fault("invalid offsets \(offsets)")
      }
      guard offsets[1] <= fileByteCount - dataStart else {
        throw fault("offsets \(offsets) in \(fileByteCount - dataStart) bytes of data")
      }
      guard shape.allSatisfy({ $0 >= 0 }) else { throw fault("negative shape \(shape)") }
      guard let bitCount = product(of: shape, times: element.bitCount), bitCount % 8 == 0 else {
        throw fault("shape \(shape) of \(dtype) has no whole number of bytes")
      }
      let byteCount = offsets[1] - offsets[0]
      guard bitCount / 8 == byteCount else {
        throw fault("\(byteCount) bytes where shape \(shape) of \(dtype) has \(bitCount / 8)")
      }
      return SafetensorsFile.Tensor(
        name: name,
        element: element,
        shape: shape,
        byteRange: dataStart + offsets[0]..<dataStart + offsets[1]
      )
    }

    /// Nil if the product does not fit.
    private func product(of shape: [Int], times bitCount: Int) -> Int? {
      if shape.contains(0) { return 0 }
      var product = bitCount
      for extent in shape {
        let (next, overflow) = product.multipliedReportingOverflow(by: extent)
        if overflow { return nil }
        product = next
      }
      return product
    }
  }
}
