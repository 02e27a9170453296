// C structures whose fields have eight bytes each, and to which newer headers add fields at the end.

/// Fields of eight bytes each that fill a C structure from its beginning.
///
/// A caller who was compiled with an older header passes a smaller structure and gets its fields.
func write(_ fields: [UInt64], to structure: UnsafeMutableRawPointer, byteCount: UInt64) {
  for (index, field) in fields.enumerated() where UInt64(index + 1) * 8 <= byteCount {
    structure.storeBytes(of: field, toByteOffset: index * 8, as: UInt64.self)
  }
}

/// The fields of eight bytes each of a C structure whose first one is its length in bytes.
///
/// A caller who was compiled with an older header passes a smaller structure: what it does not have is 0. In a larger one the
/// fields that this library does not know must be 0.
///
/// - Parameters:
///   - count: Fields that this library knows.
///   - structure: The structure.
///   - name: What the caller knows it by.
/// - Returns: `count` fields, the length first.
/// - Throws: `CallError` for a length that is not possible, and for fields that are not known and not 0.
func read(
  _ count: Int,
  from structure: UnsafeRawPointer,
  _ name: String
) throws(CallError) -> [UInt64] {
  let byteCount = structure.load(as: UInt64.self)
  guard byteCount % 8 == 0, (8...4096).contains(byteCount) else {
    throw CallError(
      description: "struct_bytes of \(name) is \(byteCount); expected the structure's size"
    )
  }
  var fields = Array(repeating: UInt64(0), count: max(count, Int(byteCount) / 8))
  for index in 0..<Int(byteCount) / 8 {
    fields[index] = structure.load(fromByteOffset: index * 8, as: UInt64.self)
  }
  guard fields[count...].allSatisfy({ $0 == 0 }) else {
    throw CallError(
      description:
        "\(name) sets fields behind its first \(count * 8) bytes, all that this library knows"
    )
  }
  return Array(fields[..<count])
}
