import Foundation

#if canImport(Darwin)
import Darwin
#endif

/// How much memory the process holds, as the system counts it.
public enum ResidentMemory {
  /// Bytes that are resident now.
  ///
  /// - Throws: ``EvaluationError/memoryUnknown(reason:)``.
  public static func current() throws(EvaluationError) -> Int {
    #if canImport(Darwin)
    Int(try taskInfo().phys_footprint)
    #else
    try status("VmRSS")
    #endif
  }

  /// The most bytes that were resident since the start, or since ``resetPeak()`` succeeded.
  ///
  /// - Throws: ``EvaluationError/memoryUnknown(reason:)``.
  public static func peak() throws(EvaluationError) -> Int {
    #if canImport(Darwin)
    Int(try taskInfo().ledger_phys_footprint_peak)
    #else
    try status("VmHWM")
    #endif
  }

  /// Begins a new peak with what is resident now.
  ///
  /// - Returns: Whether the system allowed it. If it did not, the peak since the start of the
  ///   process remains.
  @discardableResult
  public static func resetPeak() -> Bool {
    #if os(Linux)
    guard let handle = FileHandle(forWritingAtPath: "/proc/self/clear_refs") else { return false }
    defer { try? handle.close() }
    do {
      try handle.write(contentsOf: Data("5".utf8))
      return true
    } catch {
      return false
    }
    #else
    return false
    #endif
  }

  #if canImport(Darwin)
  private static func taskInfo() throws(EvaluationError) -> task_vm_info_data_t {
    var info = task_vm_info_data_t()
    var count = mach_msg_type_number_t(
      MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size
    )
    let result = withUnsafeMutablePointer(to: &info) { info in
      info.withMemoryRebound(to: integer_t.self, capacity: Int(count)) { words in
        task_info(mach_task_self_, task_flavor_t(TASK_VM_INFO), words, &count)
      }
    }
    guard result == KERN_SUCCESS else {
      throw .memoryUnknown(reason: "task_info failed with \(result)")
    }
    return info
  }
  #else
  private static func status(_ name: String) throws(EvaluationError) -> Int {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else {
      throw .memoryUnknown(reason: "/proc/self/status cannot be read")
    }
    guard let bytes = bytes(of: name, inStatus: text) else {
      throw .memoryUnknown(reason: "/proc/self/status has no \(name)")
    }
    return bytes
  }
  #endif

  /// The bytes of one line of `/proc/self/status`, such as `VmHWM:     1234 kB`.
  static func bytes(of name: String, inStatus text: String) -> Int? {
    for line in text.split(separator: "\n") where line.hasPrefix(name + ":") {
      let words = line.dropFirst(name.count + 1).split { $0 == " " || $0 == "\t" }
      guard words.count == 2, words[1] == "kB", let count = Int(words[0]) else { return nil }
      return count * 1024
    }
    return nil
  }
}
