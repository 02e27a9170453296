#if canImport(Darwin)
package import Darwin
#elseif canImport(Glibc)
package import Glibc
#elseif canImport(Musl)
package import Musl
#endif

/// The system calls that storage makes; tests put failures in their way.
///
/// Each is what the system calls by that name, with its result; a failure leaves its reason in `errno`.
package struct FileCalls: Sendable {
  package var open: @Sendable (_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32
  package var close: @Sendable (_ descriptor: Int32) -> Void
  /// Reads up to `count` bytes at an offset.
  package var read:
    @Sendable (
      _ descriptor: Int32, _ target: UnsafeMutableRawPointer, _ count: Int, _ offset: Int
    ) -> Int
  /// Writes up to `count` bytes at an offset.
  package var write:
    @Sendable (
      _ descriptor: Int32, _ source: UnsafeRawPointer, _ count: Int, _ offset: Int
    ) -> Int
  package var sync: @Sendable (_ descriptor: Int32) -> Int32
  package var truncate: @Sendable (_ descriptor: Int32, _ byteCount: Int) -> Int32
  package var rename: @Sendable (_ from: String, _ to: String) -> Int32
  package var unlink: @Sendable (_ path: String) -> Int32

  /// The system's own.
  package static let system = FileCalls(
    open: { path, flags, mode in systemOpen(path, flags, mode) },
    close: { descriptor in _ = systemClose(descriptor) },
    read: { descriptor, target, count, offset in pread(descriptor, target, count, off_t(offset)) },
    write: { descriptor, source, count, offset in
      pwrite(descriptor, source, count, off_t(offset))
    },
    sync: { descriptor in fsync(descriptor) },
    truncate: { descriptor, byteCount in ftruncate(descriptor, off_t(byteCount)) },
    rename: { from, to in systemRename(from, to) },
    unlink: { path in systemUnlink(path) }
  )
}

// The members' names hide the functions'.

private func systemOpen(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 {
  open(path, flags, mode)
}

private func systemClose(_ descriptor: Int32) -> Int32 { close(descriptor) }

private func systemRename(_ from: String, _ to: String) -> Int32 { rename(from, to) }

private func systemUnlink(_ path: String) -> Int32 { unlink(path) }
