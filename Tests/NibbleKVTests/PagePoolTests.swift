import Testing

@testable import NibbleKV

/// Where pages of several sizes go.
@Suite struct PagePoolTests {
  private static let large = 128 << 10
  private static let small = 48 << 10
  private static let slab = 2 << 20

  /// 64 large pages fill four slabs; when four of them go, small ones leave their rooms to the next large ones.
  @Test func smallPagesLeaveTheRoomOfLargeOnes() throws {
    let pool = PagePool(budget: .unlimited)
    var pages = try pool.take([Self.large: 64])[Self.large] ?? []
    #expect(pool.heldBytes == 4 * Self.slab)
    for index in [3, 20, 36, 52] { pages.remove(at: index) }
    let others = try pool.take([Self.small: 4])
    #expect(pool.heldBytes == 5 * Self.slab)
    let more = try pool.take([Self.large: 4])
    #expect(pool.heldBytes == 5 * Self.slab)
    #expect(pool.pageCount == 68)
    withExtendedLifetime((pages, others, more)) {}
  }

  @Test func theBudgetComesBeforeThat() throws {
    let pool = PagePool(budget: .bytes(4 * Self.slab))
    var pages = try pool.take([Self.large: 64])[Self.large] ?? []
    for index in [3, 20, 36, 52] { pages.remove(at: index) }
    let others = try pool.take([Self.small: 8])
    #expect(pool.heldBytes == 4 * Self.slab)
    #expect(throws: KVError.self) { try pool.take([Self.large: 1]) }
    withExtendedLifetime((pages, others)) {}
  }

  /// What is free beyond an eighth is for all.
  @Test func muchRoomIsForAll() throws {
    let pool = PagePool(budget: .unlimited)
    var pages = try pool.take([Self.large: 64])[Self.large] ?? []
    for index in stride(from: 63, to: 0, by: -5) { pages.remove(at: index) }
    let others = try pool.take([Self.small: 8])
    #expect(pool.heldBytes == 4 * Self.slab)
    withExtendedLifetime((pages, others)) {}
  }
}
