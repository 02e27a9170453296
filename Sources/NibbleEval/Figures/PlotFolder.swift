#if os(Linux) || os(macOS)
import Foundation

/// A folder for figures as files of their own.
package struct PlotFolder: Sendable {
  private let path: String
  private let searchPath: String

  /// Makes the folder and looks for the converter, before anything is measured.
  ///
  /// - Parameters:
  ///   - path: May exist already.
  ///   - searchPath: Folders of programs, separated by colons.
  /// - Throws: ``EvaluationError/unwritable(path:reason:)`` or ``EvaluationError/programNotFound(name:package:)``.
  package init(
    _ path: String,
    searchPath: String = PlotFiles.standardSearchPath
  ) throws(EvaluationError) {
    self.path = path
    self.searchPath = searchPath
    _ = try files("plot")
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw .unwritable(path: path, reason: "the folder cannot be made")
    }
  }

  /// Writes every figure's plot as SVG and PNG, under the figure's name.
  ///
  /// - Parameter figures: Their names differ.
  /// - Returns: The paths of the files.
  /// - Throws: ``EvaluationError/unwritable(path:reason:)``.
  package func write(_ figures: [Figure]) throws(EvaluationError) -> [String] {
    var paths: [String] = []
    for figure in figures { paths += try files(figure.name).write(figure.plot) }
    return paths
  }

  private func files(_ name: String) throws(EvaluationError) -> PlotFiles {
    try PlotFiles(name: "\(path)/\(name)", searchPath: searchPath)
  }
}
#endif
