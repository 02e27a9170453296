import NibblePolicy
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Memory for pages: slabs of huge pages, which pages of all sizes share.
///
/// A slab begins with pages of one size: most sizes come again, and what a smaller page leaves of a larger one's room may suit nobody.
/// Only where much is free, or the budget is exhausted, do others go there; then a page
/// that became smaller with age leaves room for others, whatever their sizes are.
///
/// Slabs and the working memory of attention are accounted here, so this is where the budget is kept.
final class PagePool: Sendable {
  private let budget: ByteBudget
  private let state = Mutex(State())
  private let reclaimer = Mutex<Reclaimer?>(nil)
  let telemetry: Telemetry

  /// Makes room; `false` if there is nothing left that it can do.
  typealias Reclaimer = @Sendable () -> Bool

  fileprivate struct State {
    var heldBytes = 0
    var pageCount = 0
    var slabs: [Slab] = []
    /// Bytes of slabs that no page has.
    var freeBytes = 0
    /// Bytes of slabs.
    var slabBytes = 0
  }

  init(budget: ByteBudget, telemetry: Telemetry = Telemetry()) {
    self.budget = budget
    self.telemetry = telemetry
  }

  /// Bytes of slabs and of working memory.
  var heldBytes: Int { state.withLock { $0.heldBytes } }

  /// Pages in use.
  var pageCount: Int { state.withLock { $0.pageCount } }

  /// Says how to make room when the budget is exhausted.
  func setReclaimer(_ reclaimer: @escaping Reclaimer) {
    self.reclaimer.withLock {
      $0 = { [telemetry] in
        let hasMadeRoom = reclaimer()
        if !hasMadeRoom { telemetry.noteBudgetExhausted() }
        return hasMadeRoom
      }
    }
  }

  /// Takes pages of several sizes, all or none.
  ///
  /// - Parameters:
  ///   - wanted: Counts by page bytes.
  ///   - makesRoom: Whether to make room if the budget is exhausted.
  ///   - zeroed: Whether the pages are to be zero; not where all of their bytes are written at once.
  /// - Returns: The pages by page bytes.
  /// - Throws: ``KVError/budgetExceeded(neededBytes:heldBytes:limitBytes:)`` or ``KVError/outOfMemory(bytes:)``.
  func take(
    _ wanted: [Int: Int],
    makesRoom: Bool = true,
    zeroed: Bool = true
  ) throws(KVError) -> [Int: [Page]] {
    let places = try makingRoom(isAllowed: makesRoom) { state throws(KVError) in
      try Self.take(wanted, from: &state, budget: budget)
    }
    return places.mapValues { $0.map { Page($0, pool: self, zeroed: zeroed) } }
  }

  /// Accounts for working memory that is not made of pages.
  func charge(bytes: Int) throws(KVError) {
    try makingRoom { state throws(KVError) in
      try Self.check(bytes, heldBytes: state.heldBytes, budget: budget)
      state.heldBytes += bytes
    }
  }

  /// Tries, and makes room and tries again for as long as the budget does not allow it.
  private func makingRoom<Result: Sendable>(
    isAllowed: Bool = true,
    _ body: (inout sending State) throws(KVError) -> sending Result
  ) throws(KVError) -> Result {
    while true {
      do throws(KVError) {
        let result = try state.withLock(body)
        telemetry.memoryBytes.note { heldBytes }
        return result
      } catch {
        // Outside the lock: whatever is let go of comes back here.
        guard isAllowed, case .budgetExceeded = error, let reclaimer = reclaimer.withLock({ $0 }),
          reclaimer()
        else { throw error }
      }
    }
  }

  /// Ends a charge.
  func discharge(bytes: Int) {
    state.withLock { $0.heldBytes -= bytes }
    telemetry.memoryBytes.note { heldBytes }
  }

  fileprivate func giveBack(_ place: Place) {
    // A slab without pages goes back to the system, outside the lock.
    let emptied: Slab? = state.withLock { state in
      state.pageCount -= 1
      return state.release(place)
    }
    if emptied != nil { telemetry.memoryBytes.note { heldBytes } }
  }

  // MARK: - All or none

  private static func take(
    _ wanted: [Int: Int],
    from state: inout State,
    budget: ByteBudget
  ) throws(KVError) -> [Int: [Place]] {
    var places: [Int: [Place]] = [:]
    do throws(KVError) {
      // Large pages first: what is left suits small ones.
      for (byteCount, count) in wanted.sorted(by: { $0.key > $1.key }) {
        places[byteCount] = state.take(count, of: byteCount)
        let missing = count - (places[byteCount]?.count ?? 0)
        guard missing > 0 else { continue }
        do throws(KVError) {
          try addSlabs(for: missing, of: byteCount, to: &state, budget: budget)
          places[byteCount]? += state.take(missing, of: byteCount)
        } catch {
          guard case .budgetExceeded = error else { throw error }
          places[byteCount]? += state.take(missing, of: byteCount, anywhere: true)
          let missing = count - (places[byteCount]?.count ?? 0)
          guard missing > 0 else { continue }
          try addSlabs(for: missing, of: byteCount, to: &state, budget: budget)
          places[byteCount]? += state.take(missing, of: byteCount)
        }
      }
    } catch {
      for place in places.values.joined() {
        _ = state.release(place)
      }
      throw error
    }
    state.pageCount += wanted.values.reduce(0, +)
    return places
  }

  private static func addSlabs(
    for count: Int,
    of pageBytes: Int,
    to state: inout State,
    budget: ByteBudget
  ) throws(KVError) {
    let perSlab = SlabGeometry.pagesPerSlab(pageBytes: pageBytes)
    let slabBytes = SlabGeometry.slabBytes(pageBytes: pageBytes)
    let slabs = (count + perSlab - 1) / perSlab
    try check(slabs * slabBytes, heldBytes: state.heldBytes, budget: budget)
    var mapped: [Slab] = []
    for _ in 0..<slabs {
      guard let slab = Slab(byteCount: slabBytes, pageBytes: pageBytes) else {
        throw .outOfMemory(bytes: slabs * slabBytes)
      }
      mapped.append(slab)
    }
    state.slabs += mapped
    state.heldBytes += slabs * slabBytes
    state.slabBytes += slabs * slabBytes
    state.freeBytes += slabs * slabBytes
  }

  private static func check(_ bytes: Int, heldBytes: Int, budget: ByteBudget) throws(KVError) {
    guard let limit = budget.byteLimit, heldBytes + bytes > limit else { return }
    throw .budgetExceeded(neededBytes: bytes, heldBytes: heldBytes, limitBytes: limit)
  }
}

extension PagePool.State {
  /// Takes up to `count` pages from the slabs that there are; from those of other sizes if `anywhere`, or without a word if more than an
  /// eighth of all is free.
  fileprivate mutating func take(_ count: Int, of byteCount: Int, anywhere: Bool? = nil) -> [Place]
  {
    var places: [Place] = []
    func take(from slabs: some Sequence<Slab>) {
      for slab in slabs {
        while places.count < count, let offset = slab.space.take(byteCount) {
          places.append(Place(slab: slab, offset: offset, byteCount: byteCount))
        }
        if places.count == count { break }
      }
    }
    take(from: slabs.lazy.filter { $0.pageBytes == byteCount })
    if places.count < count, anywhere ?? (freeBytes > slabBytes / 8) { take(from: slabs) }
    freeBytes -= places.count * byteCount
    return places
  }

  /// Gives a page's room back; a slab without pages is taken out and returned.
  fileprivate mutating func release(_ place: Place) -> Slab? {
    let slab = place.slab
    slab.space.release(place.offset..<place.offset + place.byteCount)
    freeBytes += place.byteCount
    guard slab.space.isEmpty, let position = slabs.firstIndex(where: { $0 === slab }) else {
      return nil
    }
    heldBytes -= slab.byteCount
    slabBytes -= slab.byteCount
    freeBytes -= slab.byteCount
    return slabs.remove(at: position)
  }
}

/// Where a page lies in a slab.
private struct Place: Sendable {
  let slab: Slab
  let offset: Int
  let byteCount: Int
}

/// One page: in memory that goes back to its pool when the last sequence lets go of it, or in a file, or neither, if it was
/// dropped behind a sliding window.
///
/// `@unchecked`: a page is written only while one sequence alone holds it, under that sequence's lock.
final class Page: @unchecked Sendable {
  let byteCount: Int
  /// Where the bytes are; `nil` if they are not in memory.
  let memory: UnsafeMutablePointer<UInt8>?
  private let home: (place: Place, pool: PagePool)?
  private let copy: Mutex<StoredPage?>

  /// Stands for pages that nobody will look at again.
  static let dropped = Page()

  /// A page whose bytes are in a file.
  init(stored: StoredPage) {
    byteCount = stored.byteCount
    memory = nil
    home = nil
    copy = Mutex(stored)
  }

  private init() {
    byteCount = 0
    memory = nil
    home = nil
    copy = Mutex(nil)
  }

  fileprivate init(_ place: Place, pool: PagePool, zeroed: Bool) {
    byteCount = place.byteCount
    let base = place.slab.base.advanced(by: place.offset).assumingMemoryBound(to: UInt8.self)
    if zeroed { base.update(repeating: 0, count: byteCount) }
    memory = base
    home = (place, pool)
    copy = Mutex(nil)
  }

  deinit {
    if let home { home.pool.giveBack(home.place) }
  }

  /// Where the bytes are, of a page that is known to be in memory.
  var base: UnsafeMutablePointer<UInt8> {
    guard let memory else { preconditionFailure("the page is not in memory") }
    return memory
  }

  /// The same bytes in a file, if they were ever written there.
  var stored: StoredPage? {
    get { copy.withLock { $0 } }
    set { copy.withLock { $0 = newValue } }
  }

  /// Whether the page must be read from a file.
  var isStoredOnly: Bool { memory == nil && byteCount > 0 }

  /// Runs `body` on the bytes, which are read first if they are not in memory.
  ///
  /// - Throws: ``KVError/file(_:)``, or what `body` throws.
  func withBytes<Result>(
    _ body: (UnsafePointer<UInt8>) throws(KVError) -> Result
  ) throws(KVError) -> Result {
    if let memory { return try body(memory) }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
    defer { bytes.deallocate() }
    guard let base = bytes.baseAddress, let stored else {
      preconditionFailure("the page was dropped")
    }
    try stored.read(0..<byteCount, into: base)
    return try body(base.assumingMemoryBound(to: UInt8.self))
  }
}

/// A stretch of huge pages.
///
/// `@unchecked`: `space` is guarded by the pool's lock.
private final class Slab: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  let byteCount: Int
  /// The size of the pages that it was added for.
  let pageBytes: Int
  var space: Space

  init?(byteCount: Int, pageBytes: Int) {
    self.byteCount = byteCount
    self.pageBytes = pageBytes
    space = Space(limit: byteCount)
    guard let base = Self.map(byteCount) else { return nil }
    self.base = base
  }

  deinit { munmap(base, byteCount) }

  /// Maps memory that begins at a multiple of 2 MiB: maps more, and gives back what sticks out.
  private static func map(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    let alignment = SlabGeometry.hugePageBytes
    let protection = PROT_READ | PROT_WRITE
    let mapped = mmap(nil, byteCount + alignment, protection, MAP_PRIVATE | mapAnonymous, -1, 0)
    guard let mapped, mapped != MAP_FAILED else { return nil }
    let address = UInt(bitPattern: mapped)
    let before = Int((0 &- address) & UInt(alignment - 1))
    if before > 0 { munmap(mapped, before) }
    let base = mapped.advanced(by: before)
    if before < alignment { munmap(base.advanced(by: byteCount), alignment - before) }
    #if os(Linux)
    madvise(base, byteCount, 14)  // MADV_HUGEPAGE
    #endif
    return base
  }
}

#if os(Linux)
private let mapAnonymous = Int32(MAP_ANONYMOUS)
#else
private let mapAnonymous = MAP_ANON
#endif
