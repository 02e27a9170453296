import Foundation

/// How much memory the machine has left.
enum SystemMemory {
  /// Bytes that can be taken without swapping, or, where the system does not tell, all that it has.
  ///
  /// - Throws: ``EvaluationError/memoryUnknown(reason:)``.
  static func available() throws(EvaluationError) -> Int {
    #if os(Linux)
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else {
      throw .memoryUnknown(reason: "/proc/meminfo cannot be read")
    }
    guard let bytes = ResidentMemory.bytes(of: "MemAvailable", inStatus: text) else {
      throw .memoryUnknown(reason: "/proc/meminfo has no MemAvailable")
    }
    return bytes
    #else
    return Int(clamping: ProcessInfo.processInfo.physicalMemory)
    #endif
  }
}
