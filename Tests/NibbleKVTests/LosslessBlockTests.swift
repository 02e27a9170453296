import NibbleKV
import Testing

@Suite struct LosslessBlockTests {
  @Test(arguments: [1, 2, 4]) func noiseStaysAsItIs(elementBytes: Int) {
    var random = SeededRandom(1)
    let noise = (0..<5_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    #expect(block(noise, elementBytes: elementBytes) == nil)
    #expect(block([], elementBytes: elementBytes) == nil)
  }

  #if LZ4
  @Test(arguments: [1, 2, 4]) func roundTrip(elementBytes: Int) throws {
    for bytes in [[UInt8](repeating: 7, count: 70_000), (0..<9_004).map { UInt8($0 / 50 % 256) }] {
      let block = try #require(block(bytes, elementBytes: elementBytes))
      #expect(block.encoding.planes == elementBytes)
      #expect(block.bytes.count < bytes.count)
      #expect(try block.expanded(byteCount: bytes.count) == bytes)
    }
  }

  /// Exponents of rows repeat, but only side by side do they lie close enough.
  @Test func planesHelpExactRows() throws {
    var random = SeededRandom(2)
    let rows = random.normals(8_192).map(Float16.init)
    let bytes = rows.withUnsafeBytes { Array($0) }
    #expect(block(bytes, elementBytes: 1) == nil)
    let split = try #require(block(bytes, elementBytes: 2))
    #expect(split.bytes.count < bytes.count * 9 / 10)
    #expect(try split.expanded(byteCount: bytes.count) == bytes)
  }

  @Test(arguments: [1, 2]) func damageIsNoticed(elementBytes: Int) throws {
    let bytes = (0..<9_000).map { UInt8($0 / 50 % 256) }
    let block = try #require(block(bytes, elementBytes: elementBytes))
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

  private func block(_ bytes: [UInt8], elementBytes: Int) -> LosslessBlock? {
    bytes.withUnsafeBytes { LosslessBlock(compressing: $0, elementBytes: elementBytes) }
  }
}
