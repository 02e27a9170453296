internal import Crypto

/// The SHA-256 of bytes: 32 bytes.
///
/// For what stands for a session: superblocks and indices are small, and a save that is appended must know the one before it from
/// any other.
package func digest(of source: some Sequence<UInt8>) -> [UInt8] {
  var hash = SHA256()
  Array(source).withUnsafeBytes { hash.update(bufferPointer: $0) }
  return Array(hash.finalize())
}
