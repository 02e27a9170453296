internal import CXXHash

/// The XXH64 of a page's stored bytes, with seed 0.
///
/// It finds accidents, and nothing else is asked of it: whoever can write a page can write its checksum. Every page is checked
/// when it comes back, so it has to keep up with reading.
package struct PageChecksum: Hashable, Sendable {
  package let value: UInt64

  package static let byteCount = 8

  /// Takes a checksum that was stored.
  package init(value: UInt64) {
    self.value = value
  }

  /// The checksum of bytes.
  package init(of source: UnsafeRawBufferPointer) {
    value = XXH64(source.baseAddress, source.count, 0)
  }
}
