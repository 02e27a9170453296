import NibbleKV
import Testing

@Suite struct LosslessBlockTests {
  @Test(arguments: [1, 2, 4]) func noiseStaysAsItIs(elementBytes: Int) {
    var random = SeededRandom(1)
    let noise = (0..<5_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    let isKept = compressed(noise, elementBytes: elementBytes) == nil
    #expect(isKept)
    #expect(compressed([], elementBytes: elementBytes) == nil)
  }

  #if LZ4
  @Test(arguments: [1, 2, 4]) func roundTrip(elementBytes: Int) throws {
    for bytes in [[UInt8](repeating: 7, count: 70_000), (0..<9_004).map { UInt8($0 / 50 % 256) }] {
      let block = try #require(compressed(bytes, elementBytes: elementBytes))
      #expect(Int(block.encoding.rawValue) == elementBytes)
      #expect(block.bytes.count < bytes.count)
      #expect(try block.expanded(byteCount: bytes.count) == bytes)
    }
  }

  /// Where first bytes are noise and second ones repeat, only side by side do the latter form a run.
  @Test func planesSeparateWhatRepeats() throws {
    var random = SeededRandom(2)
    let rows = (0..<8_192).map { _ in Float16(1 + 0.2 * random.normal().magnitude / 6) }
    let bytes = rows.withUnsafeBytes { Array($0) }
    let whole = compressed(bytes, elementBytes: 1)?.bytes.count ?? bytes.count
    let split = try #require(compressed(bytes, elementBytes: 2))
    let isShorter = split.bytes.count < whole * 3 / 4
    #expect(isShorter)
    let isEqual = try split.expanded(byteCount: bytes.count) == bytes
    #expect(isEqual)
  }

  @Test(arguments: [1, 2]) func damageIsNoticed(elementBytes: Int) throws {
    let bytes = (0..<9_000).map { UInt8($0 / 50 % 256) }
    let block = try #require(compressed(bytes, elementBytes: elementBytes))
    for position in block.bytes.indices {
      var damaged = block.bytes
      damaged[position] ^= 0x10
      let other = LosslessBlock(encoding: block.encoding, bytes: damaged)
      let result = try? other.expanded(byteCount: bytes.count)
      #expect(result == nil || result == bytes)
    }
    let short = LosslessBlock(encoding: block.encoding, bytes: Array(block.bytes.dropLast()))
    #expect(throws: LosslessBlock.Failure.self) { try short.expanded(byteCount: bytes.count) }
    #expect(throws: LosslessBlock.Failure.self) { try block.expanded(byteCount: bytes.count - 1) }
    #expect(throws: LosslessBlock.Failure.self) { try block.expanded(byteCount: bytes.count + 1) }
  }
  #endif

  private func compressed(_ bytes: [UInt8], elementBytes: Int) -> LosslessBlock? {
    bytes.withUnsafeBytes { LosslessBlock(compressing: $0, elementBytes: elementBytes) }
  }
}
