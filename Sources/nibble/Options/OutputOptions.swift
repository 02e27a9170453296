import ArgumentParser
import Foundation
import NibbleKV

/// How results are printed.
struct OutputOption: ParsableArguments {
  @Flag(help: "Print one JSON object instead of a table.")
  var json = false
}

/// Finds out before minutes of work whether a file can be written.
///
/// - Throws: `FileError`.
func checkFolder(of path: String) throws(FileError) {
  let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
  guard FileManager.default.isWritableFile(atPath: folder) else {
    throw .unwritable(path: path, reason: "its folder is missing or read-only")
  }
}
