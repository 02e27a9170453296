import NibbleKV
import Testing

@Suite struct LosslessBlockTests {
  @Test func roundTrip() throws {
    var random = SeededRandom(1)
    let noise = (0..<5_000).map { _ in UInt8.random(in: 0...255, using: &random) }
    for bytes in [noise, [UInt8](repeating: 7, count: 70_000), []] {
      let block = bytes.withUnsafeBytes { LosslessBlock(compressing: $0) }
      #expect(block.bytes.count <= bytes.count)
      #expect(try block.expanded(byteCount: bytes.count) == bytes)
    }
  }

  #if LZ4
  @Test func damageIsNoticed() throws {
    let bytes = (0..<9_000).map { UInt8($0 / 50 % 256) }
    let block = bytes.withUnsafeBytes { LosslessBlock(compressing: $0) }
    #expect(block.encoding == .lz4)
    for position in block.bytes.indices {
      var damaged = block.bytes
      damaged[position] ^= 0x10
      let other = LosslessBlock(encoding: .lz4, bytes: damaged)
      let result = try? other.expanded(byteCount: bytes.count)
      #expect(result == nil || result == bytes)
    }
    let short = LosslessBlock(encoding: .lz4, bytes: Array(block.bytes.dropLast()))
    #expect(throws: LosslessBlock.Failure.self) { try short.expanded(byteCount: bytes.count) }
    #expect(throws: LosslessBlock.Failure.self) { try block.expanded(byteCount: bytes.count - 1) }
    #expect(throws: LosslessBlock.Failure.self) { try block.expanded(byteCount: bytes.count + 1) }
  }
  #endif

  @Test func sealedPagesHaveLittleToGive() throws {
    let shape = ModelShape(layers: 1, queryHeads: 2, kvHeads: 2, headDim: 64)
    let filled = try Filled(shape: shape, policy: Policy(argument: "rotated:4"), tokens: 1_000)
    let pageBytes = filled.sequence.statistics.pageBytes
    #expect(filled.sequence.losslessPageBytes() <= pageBytes)
    #expect(filled.sequence.losslessPageBytes() > pageBytes / 2)
  }
}
