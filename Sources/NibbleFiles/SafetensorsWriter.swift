import Foundation

/// Writes a safetensors file tensor by tensor, so that all of them need not be in memory.
///
/// The file has its name once it is whole; one of that name is replaced then.
package final class SafetensorsWriter {
  private let path: String
  private let file: PageFile
  private var end = 0
  private var isFinished = false

  /// Begins a file.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - tensors: What will be appended, in this order.
  ///   - metadata: The words of the header.
  ///   - calls: The system calls.
  /// - Throws: ``FileError/unwritable(path:reason:)``.
  package init(
    path: String,
    tensors: [SafetensorsFile.Entry],
    metadata: [String: String],
    calls: FileCalls = .system
  ) throws(FileError) {
    self.path = path
    file = try PageFile.successor(of: path, mode: 0o666, calls: calls)
    do {
      try append([UInt8](SafetensorsFile.header(of: tensors, metadata: metadata)))
    } catch let error as FileError {
      throw error
    } catch {
      throw .unwritable(path: path, reason: error.localizedDescription)
    }
  }

  deinit {
    if !isFinished { file.unlink() }
  }

  /// Appends the values of the next tensor, or some of them, in their order.
  package func append<Value: BitwiseCopyable>(_ values: [Value]) throws(FileError) {
    var failure: FileError?
    values.withUnsafeBytes { bytes in
      do throws(FileError) {
        try file.write(bytes, at: end)
      } catch {
        failure = error
      }
      end += bytes.count
    }
    if let failure { throw failure }
  }

  /// Gives the file its name.
  package func finish() throws(FileError) {
    try file.sync()
    try file.take(name: path)
    isFinished = true
  }
}
