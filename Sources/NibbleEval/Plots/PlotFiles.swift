#if os(Linux) || os(macOS)
import Foundation

/// Writes plots as files: SVG, and PNG by librsvg's `rsvg-convert`.
package struct PlotFiles: Sendable {
  private let vectorPath: String
  private let pixels: (path: String, converter: String)?

  /// Looks for the converter, so that its absence is told before anything is measured.
  ///
  /// - Parameters:
  ///   - name: A path without its ending gives both files; one that ends in `.svg` gives that one only.
  ///   - searchPath: Folders of programs, separated by colons.
  /// - Throws: ``EvaluationError/programNotFound(name:package:)``.
  package init(
    name: String,
    searchPath: String = Self.standardSearchPath
  ) throws(EvaluationError) {
    if name.hasSuffix(".svg") {
      vectorPath = name
      pixels = nil
      return
    }
    let converters = searchPath.split(separator: ":").map { "\($0)/rsvg-convert" }
    guard let converter = converters.first(where: FileManager.default.isExecutableFile) else {
      throw .programNotFound(name: "rsvg-convert", package: "librsvg2-bin")
    }
    vectorPath = name + ".svg"
    pixels = (name + ".png", converter)
  }

  /// Writes a plot.
  ///
  /// - Parameter plot: What is drawn.
  /// - Returns: The paths of the files.
  /// - Throws: ``EvaluationError/unwritable(path:reason:)``.
  package func write(_ plot: any Plot) throws(EvaluationError) -> [String] {
    try writeText(plot.svg(), to: vectorPath)
    guard let pixels else { return [vectorPath] }
    try convert(to: pixels.path, by: pixels.converter)
    return [vectorPath, pixels.path]
  }

  private static let pixelWidth = 1_280

  /// Folders of programs, as the environment names them.
  package static var standardSearchPath: String {
    ProcessInfo.processInfo.environment["PATH"] ?? ""
  }

  private func convert(to path: String, by converter: String) throws(EvaluationError) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: converter)
    process.arguments = ["--width", "\(Self.pixelWidth)", "--output", path, vectorPath]
    do { try process.run() } catch {
      throw .unwritable(path: path, reason: "\(converter) does not start")
    }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw .unwritable(
        path: path,
        reason: "\(converter) ended with status \(process.terminationStatus)"
      )
    }
  }
}
#endif
