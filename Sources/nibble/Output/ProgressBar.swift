import Foundation
import NibbleEval

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#endif

/// A bar on standard error while long work runs; nothing where standard error is no terminal.
final class ProgressBar {
  private let isTerminal = isatty(2) == 1
  private var shown = ""
  private var phase = ""
  private var start = ContinuousClock.now

  deinit { clear() }

  /// Shows how far the work is.
  func update(_ progress: WorkProgress) {
    guard isTerminal else { return }
    if progress.phase != phase {
      phase = progress.phase
      start = .now
    }
    let share = Double(progress.completed) / Double(max(1, progress.total))
    let width = 30
    let filled = min(width, Int(share * Double(width)))
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    var line = "\(phase) [\(bar)] \(Int(share * 100)) %"
    if share > 0, seconds > 2 { line += ", \(Int(seconds * (1 - share) / share)) s left" }
    guard line != shown else { return }
    write("\r" + line + "\u{1B}[K")
    shown = line
  }

  /// Takes the bar away.
  func clear() {
    if !shown.isEmpty { write("\r\u{1B}[K") }
    shown = ""
  }

  private func write(_ text: String) {
    FileHandle.standardError.write(Data(text.utf8))
  }
}
