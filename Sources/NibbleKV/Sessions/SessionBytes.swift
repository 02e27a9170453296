import NibbleFiles

/// Puts numbers and texts one behind the other, little-endian.
struct SessionWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func append(_ values: [Float]) {
    for value in values { append(value.bitPattern) }
  }

  mutating func append(_ values: [Double]) {
    for value in values { append(value.bitPattern) }
  }

  mutating func append(contentsOf values: some Collection<UInt8>) {
    bytes.append(contentsOf: values)
  }

  mutating func append(_ checksum: PageChecksum) {
    append(checksum.value)
  }

  /// Adds zeros up to a multiple of `alignment`.
  mutating func pad(to alignment: Int) {
    append(zeros: (alignment - bytes.count % alignment) % alignment)
  }

  mutating func append(zeros count: Int) {
    bytes.append(contentsOf: repeatElement(0, count: count))
  }
}

/// Takes numbers and texts out of bytes in order, and never beyond their end.
///
/// What is wrong is thrown as ``FileError/invalidField(file:field:offset:found:expected:)``, with the offset in the file.
struct SessionReader {
  /// The file's name, for messages.
  let file: String
  /// Where the bytes begin in the file.
  let base: UInt64
  private let bytes: [UInt8]
  private(set) var position = 0

  init(_ bytes: [UInt8], file: String, base: UInt64) {
    self.bytes = bytes
    self.file = file
    self.base = base
  }

  /// Bytes that have not been taken yet.
  var remaining: Int { bytes.count - position }

  /// Throws unless `count` things of `size` bytes follow; asked before anything is allocated for them.
  func require(
    _ count: Int,
    of size: Int,
    _ field: @autoclosure () -> String
  ) throws(FileError) {
    let (needed, overflow) = count.multipliedReportingOverflow(by: size)
    guard !overflow, needed <= remaining else {
      throw fault(
        field(),
        at: position,
        found: "\(count) of \(size) bytes each",
        expected: "at most the \(remaining) bytes that follow"
      )
    }
  }

  mutating func integer<Value: FixedWidthInteger>(
    _ type: Value.Type,
    _ field: @autoclosure () -> String
  ) throws(FileError) -> Value {
    try require(1, of: MemoryLayout<Value>.size, field())
    let value = bytes.withUnsafeBytes {
      $0.loadUnaligned(fromByteOffset: position, as: Value.self)
    }
    position += MemoryLayout<Value>.size
    return Value(littleEndian: value)
  }

  /// An unsigned number of 32 bits within bounds.
  mutating func count(
    in range: ClosedRange<Int>,
    _ field: @autoclosure () -> String
  ) throws(FileError) -> Int {
    try integer(UInt32.self, in: range, field())
  }

  /// A number within bounds.
  mutating func integer<Value: FixedWidthInteger>(
    _ type: Value.Type,
    in range: ClosedRange<Int>,
    _ field: @autoclosure () -> String
  ) throws(FileError) -> Int {
    let value = Int(try integer(type, field()))
    guard range.contains(value) else {
      throw fault(
        field(),
        at: position - MemoryLayout<Value>.size,
        found: "\(value)",
        expected: range.count == 1
          ? "\(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
      )
    }
    return value
  }

  mutating func take(
    _ count: Int,
    _ field: @autoclosure () -> String
  ) throws(FileError) -> ArraySlice<UInt8> {
    try require(count, of: 1, field())
    position += count
    return bytes[position - count..<position]
  }

  mutating func text(_ count: Int, _ field: @autoclosure () -> String) throws(FileError) -> String {
    let start = position
    guard let text = String(validating: try take(count, field()), as: UTF8.self) else {
      throw fault(field(), at: start, found: "\(count) other bytes", expected: "UTF-8")
    }
    return text
  }

  mutating func checksum(_ field: @autoclosure () -> String) throws(FileError) -> PageChecksum {
    PageChecksum(value: try integer(UInt64.self, field()))
  }

  /// Finite numbers.
  mutating func floats(
    _ count: Int,
    _ field: @autoclosure () -> String
  ) throws(FileError) -> [Float] {
    try require(count, of: 4, field())
    var values: [Float] = []
    values.reserveCapacity(count)
    for _ in 0..<count {
      values.append(Float(bitPattern: try integer(UInt32.self, field())))
      try check(isFinite: values[values.count - 1].isFinite, size: 4, field())
    }
    return values
  }

  /// Finite numbers.
  mutating func doubles(
    _ count: Int,
    _ field: @autoclosure () -> String
  ) throws(FileError) -> [Double] {
    try require(count, of: 8, field())
    var values: [Double] = []
    values.reserveCapacity(count)
    for _ in 0..<count {
      values.append(Double(bitPattern: try integer(UInt64.self, field())))
      try check(isFinite: values[values.count - 1].isFinite, size: 8, field())
    }
    return values
  }

  private func check(isFinite: Bool, size: Int, _ field: @autoclosure () -> String)
    throws(FileError)
  {
    guard isFinite else {
      throw fault(field(), at: position - size, found: "not finite", expected: "a finite number")
    }
  }

  /// Padding: as many zeros.
  mutating func zeros(_ count: Int, _ field: @autoclosure () -> String) throws(FileError) {
    let start = position
    guard try take(count, field()).allSatisfy({ $0 == 0 }) else {
      throw fault(field(), at: start, found: "not zero", expected: "\(count) zeros")
    }
  }

  /// Zeros up to a multiple of `alignment`.
  mutating func pad(to alignment: Int, _ field: @autoclosure () -> String) throws(FileError) {
    try zeros((alignment - position % alignment) % alignment, field())
  }

  func fault(_ field: String, at position: Int, found: String, expected: String) -> FileError {
    .invalidField(
      file: file,
      field: field,
      offset: base + UInt64(position),
      found: found,
      expected: expected
    )
  }
}
