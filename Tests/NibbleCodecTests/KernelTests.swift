import CNibble
import Testing

/// The integer kernels of every instruction set against plain C, bit for bit.
///
/// Allocations have exactly the size that the layout asks for, so that the address sanitizer sees a read beyond them.
@Suite struct KernelTests {
  static let kinds = [
    NIBBLE_INT8, NIBBLE_CODES4, NIBBLE_CODES3, NIBBLE_CODES2, NIBBLE_TRELLIS4, NIBBLE_TRELLIS3,
    NIBBLE_TRELLIS2, NIBBLE_TRELLIS1, NIBBLE_BLOCKS4, NIBBLE_BLOCKS3, NIBBLE_BLOCKS2,
    NIBBLE_COLUMNS4, NIBBLE_COLUMNS3, NIBBLE_COLUMNS2,
  ]
  static let channels = [8, 16, 24, 32, 40, 56, 64, 72, 80, 104, 128, 136, 248, 256, 264, 504, 512]
  static let rowCounts = [1, 2, 3, 4, 5, 7, 8, 11, 16]

  static var instructionSets: [String] {
    var names: [String] = []
    var next = nibble_available_isas()
    while let name = next?.pointee {
      names.append(String(cString: name))
      next = next?.advanced(by: 1)
    }
    return names
  }

  @Test func plainCIsAlwaysThere() {
    #expect(Self.instructionSets.last == "scalar")
    #expect(Self.instructionSets.contains(String(cString: nibble_isa())))
    #expect(!nibble_select_isa("no such instruction set"))
  }

  @Test(arguments: kinds.map(\.rawValue), [16, 32, 48, 64])
  func keys(kind: UInt32, tokens: Int) {
    var random = SeededRandom(UInt64(kind) * 100 + UInt64(tokens))
    for channels in Self.channels {
      for rows in Self.rowCounts where channels <= 128 || rows < 6 {
        let block = Block(kind, isValues: false, tokens: tokens, channels: channels, &random)
        let queries = Bytes(rows * channels, extremes: (0x80, 0x7f), using: &random)
        let results = Self.instructionSets.map { isa in
          block.run(isa, operand: queries, rows: rows)
        }
        for (isa, result) in zip(Self.instructionSets, results) {
          #expect(result == results.last, "\(isa), \(channels) channels, \(rows) rows")
        }
      }
    }
  }

  @Test(arguments: kinds.map(\.rawValue), [16, 32, 48, 64])
  func values(kind: UInt32, tokens: Int) {
    var random = SeededRandom(UInt64(kind) * 100 + UInt64(tokens))
    for channels in Self.channels where channels % 16 == 0 {
      for rows in Self.rowCounts where channels <= 128 || rows < 6 {
        let block = Block(kind, isValues: true, tokens: tokens, channels: channels, &random)
        let weights = Bytes(rows * tokens, extremes: (0, 255), using: &random)
        let results = Self.instructionSets.map { isa in
          block.run(isa, operand: weights, rows: rows)
        }
        for (isa, result) in zip(Self.instructionSets, results) {
          #expect(result == results.last, "\(isa), \(channels) channels, \(rows) rows")
        }
      }
    }
  }

  /// The index with the opposite entry, where kernels take for granted that a table is odd; Specs/codecs.md, trellis.
  static func mirror(of index: Int, kind: nibble_kind) -> Int? {
    switch kind {
    case NIBBLE_TRELLIS4: -index & 0x7f | ~index & 0x80
    case NIBBLE_TRELLIS3: index ^ 0xb7
    default: nil
    }
  }

  @Test(arguments: [NIBBLE_TRELLIS4.rawValue, NIBBLE_TRELLIS3.rawValue])
  func trellisTablesAreOdd(kind: UInt32) throws {
    let table = try #require(nibble_constant_table(Int32(kind)))
    for index in 0..<256 {
      let mirror = try #require(Self.mirror(of: index, kind: nibble_kind(rawValue: kind)))
      #expect(table[mirror] == -table[index], "index \(index)")
    }
  }

  /// The definition itself, for one block that is packed by hand: code 5 everywhere.
  @Test func sumsByHand() {
    let codes = [UInt8](repeating: 0x55, count: 64 * 8 / 2)
    let table = (0..<16).map { Int8($0 * 10 - 60) }  // entry 5 is -10
    let queries = [Int8](repeating: 3, count: 8)
    let weights = [UInt8](repeating: 2, count: 64)
    for isa in Self.instructionSets {
      var scores = [Int32](repeating: 0, count: 64)
      #expect(nibble_test_dot(isa, NIBBLE_CODES4, codes, table, 64, 8, queries, 1, &scores))
      #expect(scores == [Int32](repeating: (-10 + 128) * 3 * 8, count: 64))
      var sums = [Int32](repeating: 0, count: 16)
      let wide = codes + codes
      #expect(nibble_test_weigh(isa, NIBBLE_CODES4, wide, table, 64, 16, weights, 1, &sums))
      #expect(sums == [Int32](repeating: -10 * 2 * 64, count: 16))
    }
    var nothing: [Int32] = [0]
    #expect(!nibble_test_dot("none", NIBBLE_CODES4, codes, table, 64, 8, queries, 1, &nothing))
  }
}

/// Random bytes in an allocation of their size; every third time extremes alone.
private final class Bytes {
  let base: UnsafeMutableRawPointer

  init(_ count: Int, extremes: (UInt8, UInt8), using random: inout SeededRandom) {
    base = .allocate(byteCount: count, alignment: 1)
    let isExtreme = random.next() % 3 == 0
    for index in 0..<count {
      let word = random.next()
      let byte = isExtreme ? (word & 1 == 0 ? extremes.0 : extremes.1) : UInt8(word >> 56)
      base.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
    }
  }

  deinit { base.deallocate() }
}

/// The codes and the table of one block.
private struct Block {
  let kind: nibble_kind
  let isValues: Bool
  let tokens: Int
  let channels: Int
  let codes: Bytes
  let table: Bytes

  init(
    _ kind: UInt32,
    isValues: Bool,
    tokens: Int,
    channels: Int,
    _ random: inout SeededRandom
  ) {
    self.kind = nibble_kind(rawValue: kind)
    self.isValues = isValues
    self.tokens = tokens
    self.channels = channels
    var strip = nibble_strip()
    strip.kind = Int32(kind)
    strip.is_values = isValues ? 1 : 0
    strip.tokens = Int32(tokens)
    strip.block_tokens = Int32(tokens)
    strip.row_channels = Int32(channels)
    strip.channels = Int32(channels)
    strip.group_channels = Int32(channels)
    nibble_strip_measure(&strip, 1)
    codes = Bytes(Int(strip.code_bytes), extremes: (0, 255), using: &random)
    table = Bytes(Int(NIBBLE_TRELLIS_ENTRIES), extremes: (0x80, 0x7f), using: &random)
    for index in 0..<128 {
      guard let mirror = KernelTests.mirror(of: index, kind: self.kind) else { continue }
      let entry = max(-127, table.base.load(fromByteOffset: index, as: Int8.self))
      table.base.storeBytes(of: entry, toByteOffset: index, as: Int8.self)
      table.base.storeBytes(of: -entry, toByteOffset: mirror, as: Int8.self)
    }
  }

  func run(_ isa: String, operand: Bytes, rows: Int) -> [Int32] {
    var out = [Int32](repeating: 1, count: rows * (isValues ? channels : tokens))
    if isValues {
      nibble_test_weigh(
        isa,
        kind,
        codes.base,
        table.base,
        Int32(tokens),
        Int32(channels),
        operand.base,
        Int32(rows),
        &out
      )
    } else {
      nibble_test_dot(
        isa,
        kind,
        codes.base,
        table.base,
        Int32(tokens),
        Int32(channels),
        operand.base,
        Int32(rows),
        &out
      )
    }
    return out
  }
}
