#if os(Linux) || os(macOS)
import Foundation
import SessionSaver
import Testing

@testable import NibbleKV

/// A process that is killed while it saves leaves the session before or the one after, bit for bit.
@Suite(.enabled(if: SavingProcess.path != nil, "the saving program is built beside the tests"))
struct SessionKillTests {
  @Test func killedWhileSaving() throws {
    let kills = ProcessInfo.processInfo.environment["NIBBLE_SESSION_KILLS"].flatMap(Int.init) ?? 30
    let folder = try TemporaryFolder()
    let path = folder.file("a.session")
    let references = try Self.references()
    var random = SeededRandom(1)
    var before = 0
    var cutShort = 0
    for _ in 0..<kills {
      let process = try SavingProcess(path: path)
      // Some processes are killed before they have saved, most in the midst of later saves.
      if Int.random(in: 0..<8, using: &random) > 0 { process.waitForSave() }
      usleep(UInt32.random(in: 0...20_000, using: &random))
      let last = process.kill() ?? before
      let next = last % SavedSchedule.mostSaves + 1
      guard FileManager.default.fileExists(atPath: path) else {
        #expect(last == 0)
        continue
      }
      let session = try SessionFile(path: path)
      let restored = try SavedSchedule.cache().restoreSequence(from: path)
      let count = restored.tokenCount / SavedSchedule.tokensOfSave
      #expect(count == last || count == next)
      #expect(session.faults().isEmpty)
      let reference = references[count]
      try expectEqual(restored, reference)
      if session.unfinishedBytes > 0 || folder.names.count > 1 { cutShort += 1 }
      before = count
    }
    // The name of the next file, if one was being written.
    #expect(Set(folder.names).isSubset(of: ["a.session", "a.session.saving"]))
    #expect(before > 0 && cutShort > 0)
    print("\(kills) kills, \(cutShort) of them in the midst of a save")
  }

  /// The sequence after each save.
  private static func references() throws -> [KVSequence] {
    let sequence = try SavedSchedule.cache().makeSequence()
    var references = [sequence.fork()]
    for save in 0..<SavedSchedule.mostSaves {
      try SavedSchedule.append(save: save, to: sequence)
      references.append(sequence.fork())
    }
    return references
  }
}

/// A process that saves.
private final class SavingProcess {
  private let process = Process()
  private let output = Pipe()
  private var text = Data()

  static let path: String? = {
    let tests = URL(fileURLWithPath: Bundle.main.executablePath ?? CommandLine.arguments[0])
    var directory = tests.resolvingSymlinksInPath().deletingLastPathComponent()
    let bundles = Bundle.allBundles.filter { $0.bundlePath.hasSuffix(".xctest") }
    if let bundle = bundles.first { directory = bundle.bundleURL.deletingLastPathComponent() }
    let path = directory.appendingPathComponent("SessionSaver").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  init(path: String) throws {
    process.executableURL = URL(fileURLWithPath: try #require(Self.path))
    process.arguments = [path]
    process.standardOutput = output
    try process.run()
  }

  /// Waits until it has told of a save.
  func waitForSave() { text += output.fileHandleForReading.availableData }

  /// Ends it at once; returns the last save that it told of.
  func kill() -> Int? {
    Foundation.kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
    text += output.fileHandleForReading.readDataToEndOfFile()
    return String(decoding: text, as: UTF8.self).split(separator: "\n").last.flatMap { Int($0) }
  }
}
#endif
