internal import Crypto

/// The first 16 bytes of the SHA-256 of a page's stored bytes.
///
/// The one hash of the library: the processor's instructions make it about as fast as memory is written, and no other system
/// library is needed for it.
struct PageChecksum: Hashable, Sendable {
  let bytes: [UInt8]

  static let byteCount = 16

  /// Takes a checksum that was stored.
  init(bytes: [UInt8]) {
    precondition(bytes.count == Self.byteCount)
    self.bytes = bytes
  }

  /// The checksum of bytes.
  init(of source: UnsafeRawBufferPointer) {
    var hash = SHA256()
    hash.update(bufferPointer: source)
    bytes = Array(hash.finalize().prefix(Self.byteCount))
  }
}
