package import Foundation

extension SafetensorsFile {
  /// A tensor to be written.
  package struct Content {
    package var name: String
    package var shape: [Int]
    package var values: [Float]

    package init(name: String, shape: [Int], values: [Float]) {
      self.name = name
      self.shape = shape
      self.values = values
    }
  }

  /// Writes float32 tensors; a file of that name is replaced as a whole or not at all.
  ///
  /// - Throws: ``FileError/unwritable(path:reason:)``.
  package static func write(
    _ tensors: [Content],
    metadata: [String: String],
    to path: String,
    calls: FileCalls = .system
  ) throws(FileError) {
    let entries = tensors.map { Entry(name: $0.name, element: .float32, shape: $0.shape) }
    let writer = try SafetensorsWriter(
      path: path,
      tensors: entries,
      metadata: metadata,
      calls: calls
    )
    for tensor in tensors { try writer.append(tensor.values) }
    try writer.finish()
  }

  /// What a header says of a tensor.
  package struct Entry: Sendable {
    package var name: String
    package var element: TensorElement
    package var shape: [Int]

    package init(name: String, element: TensorElement, shape: [Int]) {
      self.name = name
      self.element = element
      self.shape = shape
    }

    /// Bytes of the values; elements have whole bytes.
    package var byteCount: Int { shape.reduce(element.bitCount / 8, *) }
  }

  /// The start of a file whose tensors follow in the order given: eight bytes of the header's length, the header.
  package static func header(
    of tensors: [Entry],
    metadata: [String: String]
  ) throws -> Data {
    var entries: [String: Any] = ["__metadata__": metadata]
    var offset = 0
    for tensor in tensors {
      let end = offset + tensor.byteCount
      entries[tensor.name] = [
        "dtype": tensor.element.rawValue, "shape": tensor.shape, "data_offsets": [offset, end],
      ]
      offset = end
    }
    var header = try JSONSerialization.data(
      withJSONObject: entries,
      options: [.sortedKeys, .withoutEscapingSlashes]
    )
    // Values lie on whole lines, so that other programs can use a mapped file in place.
    header.append(Data(repeating: UInt8(ascii: " "), count: (64 - (8 + header.count) % 64) % 64))
    var data = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) }
    data.append(header)
    return data
  }

  /// The values of a float32 tensor.
  ///
  /// - Throws: ``FileError/wrongContent(file:reason:)`` if it is missing or has another shape or type.
  package func floats(_ name: String, shape: [Int]) throws(FileError) -> [Float] {
    guard let tensor = tensors[name] else {
      throw .wrongContent(file: name, reason: "there is no tensor '\(name)'")
    }
    guard tensor.element == .float32, tensor.shape == shape else {
      throw .wrongContent(
        file: name,
        reason:
          "tensor '\(name)' is \(tensor.element.rawValue) \(tensor.shape); expected F32 \(shape)"
      )
    }
    return try values(tensor.byteRange)
  }
}
