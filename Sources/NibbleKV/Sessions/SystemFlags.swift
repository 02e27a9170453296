#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How sessions are opened.
enum SystemFlags {
  static let readOnly = O_RDONLY | O_NONBLOCK
  static let readAndWrite = O_RDWR | O_NONBLOCK
}
