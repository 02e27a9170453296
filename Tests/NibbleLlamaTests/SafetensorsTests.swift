import Foundation
import MutationSupport
import NibbleGenerate
import NibbleKV
import Synchronization
import Testing

@testable import NibbleFiles
@testable import NibbleLlama

@Suite("Safetensors files")
struct SafetensorsTests {
  private let directory: TemporaryDirectory

  init() throws {
    directory = try TemporaryDirectory()
  }

  private func load(_ bytes: Data) throws -> SafetensorsFile {
    try directory.write(bytes, to: "model.safetensors")
    return try SafetensorsFile(path: directory.path + "/model.safetensors")
  }

  @Test("Values of each precision, aligned or not")
  func values() throws {
    let header = """
      {"__metadata__":{"format":"pt"},"half":{"dtype":"F16","shape":[9],"data_offsets":[0,18]},\
      "brain":{"dtype":"BF16","shape":[1,3],"data_offsets":[18,24]},\
      "single":{"dtype":"F32","shape":[2],"data_offsets":[24,32]},\
      "empty":{"dtype":"I64","shape":[0,4],"data_offsets":[32,32]}}
      """
    let halves: [UInt16] = [
      0x0000, 0x8000, 0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x83FF, 0xFC00,
    ]
    let brains: [UInt16] = [0x3F80, 0xC040, 0x7F7F]
    let singles: [Float] = [.pi, -.leastNonzeroMagnitude]
    var data = Data()
    for bits in halves + brains { withUnsafeBytes(of: bits) { data.append(contentsOf: $0) } }
    for value in singles { withUnsafeBytes(of: value) { data.append(contentsOf: $0) } }
    for padding in 0..<4 {
      let padded = header + String(repeating: " ", count: padding)
      let file = try load(SafetensorsBytes.file(header: padded, data: data))
      let half = try #require(file.tensors["half"])
      #expect(
        try file.floats(of: half) == [
          0, -0.0, 1, -2, 65_504, 0x1p-14, 0x1p-24, -0x1.FF8p-15, -.infinity,
        ]
      )
      #expect(try file.floats(of: half)[1].sign == .minus)
      let brain = try #require(file.tensors["brain"])
      #expect(try file.floats(of: brain) == [1, -3, Float(bitPattern: 0x7F7F_0000)])
      let single = try #require(file.tensors["single"])
      #expect(try file.floats(of: single) == singles)
      #expect(file.tensors["empty"]?.shape == [0, 4])
    }
  }

  @Test("Float16 not a number stays so")
  func notANumber() {
    #expect(WeightConversion.half(0x7E00).isNaN)
    #expect(WeightConversion.half(0x7C00) == .infinity)
  }

  /// Headers that lie about eight bytes of data.
  static let lies: [(String, String)] = [
    ("beyond the file", #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#),
    ("huge end", #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807]}}"#),
    ("negative", #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#),
    ("reversed", #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#),
    ("one offset", #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#),
    (
      "overlap",
      #"""
      {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
      "b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}
      """#
    ),
    ("hole at the start", #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#),
    ("hole at the end", #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#),
    ("no tensors", "{}"),
    ("too few bytes", #"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#),
    ("too many bytes", #"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}}"#),
    ("half a byte", #"{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,8]}}"#),
    ("unknown type", #"{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}"#),
    ("negative shape", #"{"a":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}}"#),
    (
      "overflowing shape",
      #"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}}"#
    ),
    ("overflowing number", #"{"a":{"dtype":"F32","shape":[1e30],"data_offsets":[0,8]}}"#),
    ("fraction", #"{"a":{"dtype":"F32","shape":[0.5],"data_offsets":[0,8]}}"#),
    ("no shape", #"{"a":{"dtype":"F32","data_offsets":[0,8]}}"#),
    ("a list", #"[{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}]"#),
    ("cut off", #"{"a":{"dtype":"F32","shape":[2],"data_of"#),
    ("not text", "{\u{0}\u{1}"),
    ("deep", "{\"a\":" + String(repeating: "[", count: 100_000)),
    ("empty", ""),
  ]

  @Test("Headers that lie are refused", arguments: lies)
  func lie(_ name: String, header: String) throws {
    #expect(throws: FileError.self, "\(name)") {
      try load(SafetensorsBytes.file(header: header, data: Data(count: 8)))
    }
  }

  @Test("Each lie is named")
  func names() throws {
    let overlap = try #require(Self.lies.first { $0.0 == "overlap" }).1
    let error = #expect(throws: FileError.self) {
      try load(SafetensorsBytes.file(header: overlap, data: Data(count: 8)))
    }
    #expect(
      error
        == .invalidTensor(
          file: "model.safetensors",
          tensor: "b",
          reason: "its bytes overlap another tensor's"
        )
    )
    let hole = #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#
    #expect(throws: FileError.hole(file: "model.safetensors", offset: 0, next: 4)) {
      try load(SafetensorsBytes.file(header: hole, data: Data(count: 8)))
    }
  }

  @Test("Header lengths beyond the file or the limit")
  func headerLength() throws {
    let name = "model.safetensors"
    #expect(throws: FileError.truncated(file: name, byteCount: 3, needed: 8)) {
      try load(Data([1, 2, 3]))
    }
    #expect(throws: FileError.truncated(file: name, byteCount: 0, needed: 8)) {
      try load(Data())
    }
    #expect(throws: FileError.truncated(file: name, byteCount: 10, needed: 264)) {
      try load(Data([0, 1, 0, 0, 0, 0, 0, 0, 0x7B, 0x7D]))
    }
    for length: UInt64 in [100_000_001, .max, .max - 7, 1 << 63] {
      let error = FileError.tooLong(
        file: name,
        what: "header",
        byteCount: length,
        limit: 100_000_000
      )
      #expect(throws: error) {
        try load(withUnsafeBytes(of: length.littleEndian) { Data($0) } + Data("{}".utf8))
      }
    }
  }

  @Test("A checkpoint cut at any place is refused")
  func truncation() throws {
    let url = URL(fileURLWithPath: try Fixtures.path("qwen2-f16/model.safetensors"))
    let whole = try Data(contentsOf: url)
    #expect(try load(whole).tensors.count > 20)
    for count in stride(from: 0, to: whole.count, by: 997) {
      #expect(throws: FileError.self) { try load(whole.prefix(count)) }
    }
    #expect(throws: FileError.self) { try load(whole + Data([0])) }
  }

  @Test("Mutated files are refused or read")
  func mutatedFiles() throws {
    let checkpoint = try Fixtures.path("qwen2-f16/model.safetensors")
    let calibration = Fixtures.sessions + "/model.calibration"
    let path = directory.path + "/mutated"
    var random = SplitMix64(seed: 7)
    for original in [checkpoint, calibration] {
      let whole = [UInt8](try Data(contentsOf: URL(fileURLWithPath: original)))
      var report = MutationReport(
        of: "safetensors, \(URL(fileURLWithPath: original).lastPathComponent)"
      )
      for _ in 0..<MutationReport.count(orElse: 1_000) / 2 {
        let bytes = Self.mutated(whole, using: &random)
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        report.add(byteCount: bytes.count) {
          let file = try SafetensorsFile(path: path)
          for tensor in file.tensors.values where tensor.element.isWeight {
            _ = try file.floats(of: tensor)
          }
          if original == calibration { _ = try Calibration(path: path) }
        }
      }
      print(report)
      #expect(report.read > 0 && report.refused > report.read / 10)
      #expect(report.mostBytes <= 64 << 20)
    }
  }

  private static func mutated(_ whole: [UInt8], using random: inout SplitMix64) -> [UInt8] {
    var bytes = whole
    let length = Int(bytes[0]) + Int(bytes[1]) << 8
    switch Int.random(in: 0..<6, using: &random) {
    case 0: Mutation.cut(&bytes, using: &random)
    case 1: Mutation.change(&bytes, in: 0..<8, using: &random)
    case 2: Mutation.change(&bytes, in: 8..<8 + length, using: &random)
    default:
      Mutation.changeText(&bytes, in: 8..<8 + length, using: &random)
      // As long as the header says, so that what stands there is looked at.
      let count = length + bytes.count - whole.count
      withUnsafeBytes(of: UInt64(count).littleEndian) { bytes.replaceSubrange(0..<8, with: $0) }
    }
    return bytes
  }

  @Test("A file that is cut off while it is in use is an error")
  func cutOffInUse() throws {
    let path = directory.path + "/model.safetensors"
    let whole = try Data(
      contentsOf: URL(fileURLWithPath: Fixtures.path("qwen2-f16/model.safetensors"))
    )
    let file = try load(whole)
    let last = try #require(
      file.tensors.values.max { $0.byteRange.upperBound < $1.byteRange.upperBound }
    )
    #expect(truncate(path, off_t(last.byteRange.upperBound - 1)) == 0)
    let error = #expect(throws: FileError.self) { try file.floats(of: last) }
    guard case .truncated = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test(
    "A model goes on when its files are cut off",
    arguments: [WeightResidency.packed, .widened]
  )
  func modelsOwnTheirWeights(residency: WeightResidency) throws {
    let source = try Fixtures.path("qwen2-f16")
    for name in try FileManager.default.contentsOfDirectory(atPath: source) {
      try FileManager.default.copyItem(
        atPath: "\(source)/\(name)",
        toPath: "\(directory.path)/\(name)"
      )
    }
    let model = try LlamaModel(
      directory: ModelDirectory(path: directory.path),
      residency: residency
    )
    #expect(truncate(directory.path + "/model.safetensors", 10) == 0)
    let (tokens, expected) = try Fixtures.expected("qwen2-f16")
    let store = ReferenceCache(shape: model.shape)
    let logits = try model.forward(tokens: tokens, store: store, logits: .all)
    #expect(LogitTests.relativeError(logits, expected) < 1e-3)
  }

  @Test("Short and interrupted calls")
  func slowDisks() throws {
    let count = Mutex(0)
    let isInterrupted: @Sendable () -> Bool = {
      errno = EINTR
      return count.withLock {
        $0 += 1
        return $0 % 2 == 1
      }
    }
    var calls = FileCalls.system
    calls.read = { isInterrupted() ? -1 : FileCalls.system.read($0, $1, min($2, 7), $3) }
    calls.write = { isInterrupted() ? -1 : FileCalls.system.write($0, $1, min($2, 7), $3) }
    calls.sync = { isInterrupted() ? -1 : FileCalls.system.sync($0) }
    let path = directory.path + "/slow.safetensors"
    let tensor = SafetensorsFile.Content(name: "a", shape: [3], values: [1, 2, .pi])
    try SafetensorsFile.write([tensor], metadata: [:], to: path, calls: calls)
    let file = try SafetensorsFile(path: path, calls: calls)
    #expect(try file.floats("a", shape: [3]) == tensor.values)
  }

  @Test("A file that cannot be written leaves the old one", arguments: ["write", "sync", "rename"])
  func failedWrites(call: String) throws {
    let path = directory.path + "/old.safetensors"
    let old = SafetensorsFile.Content(name: "a", shape: [1], values: [1])
    try SafetensorsFile.write([old], metadata: [:], to: path)
    var calls = FileCalls.system
    switch call {
    case "write":
      calls.write = { _, _, _, _ in
        errno = ENOSPC
        return -1
      }
    case "sync":
      calls.sync = { _ in
        errno = ENOSPC
        return -1
      }
    default:
      calls.rename = { _, _ in
        errno = ENOSPC
        return -1
      }
    }
    let new = SafetensorsFile.Content(name: "a", shape: [1], values: [2])
    let error = #expect(throws: FileError.self) {
      try SafetensorsFile.write([new], metadata: [:], to: path, calls: calls)
    }
    guard case .unwritable = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(try SafetensorsFile(path: path).floats("a", shape: [1]) == [1])
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: directory.path) == ["old.safetensors"]
    )
  }

  @Test("Directories and missing files are errors")
  func unreadable() throws {
    #expect(throws: FileError.self) { try SafetensorsFile(path: directory.path) }
    #expect(throws: FileError.self) { try SafetensorsFile(path: directory.path + "/none") }
  }
}
