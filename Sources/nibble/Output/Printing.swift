import Foundation
import NibbleEval

/// Runs work with a progress bar.
func withProgress<Result>(_ work: ((WorkProgress) -> Void) throws -> Result) rethrows -> Result {
  let bar = ProgressBar()
  defer { bar.clear() }
  return try work(bar.update)
}

/// Writes to standard output at once, so that text streams.
func printNow(_ text: String) {
  FileHandle.standardOutput.write(Data(text.utf8))
}

/// Writes a line to standard error.
func printNote(_ text: String) {
  FileHandle.standardError.write(Data((text + "\n").utf8))
}
