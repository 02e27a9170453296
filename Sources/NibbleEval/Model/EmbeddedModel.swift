import Foundation

/// The model that is used when none is named.
public enum EmbeddedModel {
  /// The environment variable that names another directory.
  public static let variable = "NIBBLE_MODEL"
  /// Where the model lies in the repository.
  public static let folder = "Examples/Models/harbour-3m"

  /// Finds the model's directory.
  ///
  /// `NIBBLE_MODEL` comes first. Without it, the folder is looked for in the current directory, and
  /// in the directories above the program and above the sources that it was built from.
  ///
  /// - Throws: ``EvaluationError/embeddedModelNotFound(searched:)``.
  public static func locate() throws(EvaluationError) -> String {
    try locate(
      environment: ProcessInfo.processInfo.environment,
      currentDirectory: FileManager.default.currentDirectoryPath,
      program: Bundle.main.executablePath ?? CommandLine.arguments[0],
      source: #filePath
    )
  }

  static func locate(
    environment: [String: String],
    currentDirectory: String,
    program: String,
    source: String
  ) throws(EvaluationError) -> String {
    if let named = environment[variable], !named.isEmpty {
      guard isModel(named) else { throw .embeddedModelNotFound(searched: ["\(variable)=\(named)"]) }
      return named
    }
    let here = currentDirectory + "/" + folder
    if isModel(here) { return here }
    for start in [program, source] {
      for directory in directories(above: start) where isModel(directory + "/" + folder) {
        return directory + "/" + folder
      }
    }
    throw .embeddedModelNotFound(searched: [
      here, "above \((program as NSString).deletingLastPathComponent)",
    ])
  }

  private static func isModel(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: path + "/config.json")
  }

  private static func directories(above path: String) -> [String] {
    var url = URL(fileURLWithPath: path).resolvingSymlinksInPath().deletingLastPathComponent()
    var result: [String] = []
    while url.path != "/", result.count < 64 {
      result.append(url.path)
      url.deleteLastPathComponent()
    }
    return result
  }
}
