import NibblePolicy
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Memory for pages: slabs of huge pages, cut into pages of one size, each size with its free pages.
///
/// Slabs and the working memory of attention are accounted here, so this is where the budget is kept.
final class PagePool: Sendable {
  private let budget: ByteBudget
  private let state = Mutex(State())
  private let reclaimer = Mutex<Reclaimer?>(nil)

  /// Makes room; `false` if there is nothing left that it can do.
  typealias Reclaimer = @Sendable () -> Bool

  private struct State {
    var heldBytes = 0
    var pageCount = 0
    var slabs: [Int: [Slab]] = [:]
  }

  init(budget: ByteBudget) {
    self.budget = budget
  }

  /// Bytes of slabs and of working memory.
  var heldBytes: Int { state.withLock { $0.heldBytes } }

  /// Pages in use.
  var pageCount: Int { state.withLock { $0.pageCount } }

  /// Says how to make room when the budget is exhausted.
  func setReclaimer(_ reclaimer: @escaping Reclaimer) {
    self.reclaimer.withLock { $0 = reclaimer }
  }

  /// Takes pages of several sizes, all or none.
  ///
  /// - Parameter wanted: Counts by page bytes.
  /// - Returns: The pages by page bytes, zeroed.
  /// - Throws: ``KVError/budgetExceeded(neededBytes:heldBytes:limitBytes:)`` or ``KVError/outOfMemory(bytes:)``.
  func take(_ wanted: [Int: Int]) throws(KVError) -> [Int: [Page]] {
    let places = try makingRoom { state throws(KVError) in
      try Self.take(wanted, from: &state, budget: budget)
    }
    return places.mapValues { $0.map { Page(slab: $0.slab, index: $0.index, pool: self) } }
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
    _ body: (inout sending State) throws(KVError) -> sending Result
  ) throws(KVError) -> Result {
    while true {
      do throws(KVError) {
        return try state.withLock(body)
      } catch {
        // Outside the lock: whatever is let go of comes back here.
        guard case .budgetExceeded = error, let reclaimer = reclaimer.withLock({ $0 }),
          reclaimer()
        else { throw error }
      }
    }
  }

  /// Ends a charge.
  func discharge(bytes: Int) {
    state.withLock { $0.heldBytes -= bytes }
  }

  fileprivate func giveBack(slab: Slab, index: Int) {
    // A slab without pages goes back to the system, outside the lock.
    let emptied: Slab? = state.withLock { state in
      slab.free.append(index)
      state.pageCount -= 1
      guard slab.free.count == slab.pageCapacity else { return nil }
      let position = state.slabs[slab.pageBytes]?.firstIndex { $0 === slab }
      guard let position else { return nil }
      state.heldBytes -= slab.byteCount
      return state.slabs[slab.pageBytes]?.remove(at: position)
    }
    withExtendedLifetime(emptied) {}
  }

  // MARK: - Prepare, check, apply

  private struct Place: Sendable {
    let slab: Slab
    let index: Int
  }

  private static func take(
    _ wanted: [Int: Int],
    from state: inout State,
    budget: ByteBudget
  ) throws(KVError) -> [Int: [Place]] {
    try prepareSlabs(wanted, in: &state, budget: budget)
    var places: [Int: [Place]] = [:]
    for (pageBytes, count) in wanted {
      var taken: [Place] = []
      for slab in state.slabs[pageBytes] ?? [] {
        while taken.count < count, let index = slab.free.popLast() {
          taken.append(Place(slab: slab, index: index))
        }
      }
      places[pageBytes] = taken
      state.pageCount += count
    }
    return places
  }

  /// Maps the slabs that are missing, or none.
  private static func prepareSlabs(
    _ wanted: [Int: Int],
    in state: inout State,
    budget: ByteBudget
  ) throws(KVError) {
    var missing: [(pageBytes: Int, slabs: Int)] = []
    var bytes = 0
    for (pageBytes, count) in wanted {
      let free = (state.slabs[pageBytes] ?? []).reduce(0) { $0 + $1.free.count }
      guard free < count else { continue }
      let perSlab = SlabGeometry.pagesPerSlab(pageBytes: pageBytes)
      let slabs = (count - free + perSlab - 1) / perSlab
      missing.append((pageBytes, slabs))
      bytes += slabs * SlabGeometry.slabBytes(pageBytes: pageBytes)
    }
    guard bytes > 0 else { return }
    try check(bytes, heldBytes: state.heldBytes, budget: budget)
    var mapped: [Slab] = []
    for (pageBytes, slabs) in missing {
      for _ in 0..<slabs {
        guard let slab = Slab(pageBytes: pageBytes) else { throw .outOfMemory(bytes: bytes) }
        mapped.append(slab)
      }
    }
    for slab in mapped { state.slabs[slab.pageBytes, default: []].append(slab) }
    state.heldBytes += bytes
  }

  private static func check(_ bytes: Int, heldBytes: Int, budget: ByteBudget) throws(KVError) {
    guard let limit = budget.byteLimit, heldBytes + bytes > limit else { return }
    throw .budgetExceeded(neededBytes: bytes, heldBytes: heldBytes, limitBytes: limit)
  }
}

/// One page: in memory that goes back to its pool when the last sequence lets go of it, or in a file, or neither, if it was
/// dropped behind a sliding window.
///
/// `@unchecked`: a page is written only while one sequence alone holds it, under that sequence's lock.
final class Page: @unchecked Sendable {
  let byteCount: Int
  private let place: Place?
  private let copy: Mutex<StoredPage?>

  private struct Place {
    let base: UnsafeMutablePointer<UInt8>
    let slab: Slab
    let index: Int
    let pool: PagePool
  }

  /// Stands for pages that nobody will look at again.
  static let dropped = Page()

  /// A page whose bytes are in a file.
  init(stored: StoredPage) {
    byteCount = stored.byteCount
    place = nil
    copy = Mutex(stored)
  }

  private init() {
    byteCount = 0
    place = nil
    copy = Mutex(nil)
  }

  fileprivate init(slab: Slab, index: Int, pool: PagePool) {
    byteCount = slab.pageBytes
    let base = slab.base.advanced(by: index * slab.pageBytes).assumingMemoryBound(to: UInt8.self)
    base.update(repeating: 0, count: byteCount)
    place = Place(base: base, slab: slab, index: index, pool: pool)
    copy = Mutex(nil)
  }

  deinit {
    if let place { place.pool.giveBack(slab: place.slab, index: place.index) }
  }

  /// Where the bytes are; `nil` if they are not in memory.
  var memory: UnsafeMutablePointer<UInt8>? { place?.base }

  /// Where the bytes are, of a page that is known to be in memory.
  var base: UnsafeMutablePointer<UInt8> {
    guard let place else { preconditionFailure("the page is not in memory") }
    return place.base
  }

  /// The same bytes in a file, if they were ever written there.
  var stored: StoredPage? {
    get { copy.withLock { $0 } }
    set { copy.withLock { $0 = newValue } }
  }

  /// Whether the page must be read from a file.
  var isStoredOnly: Bool { place == nil && byteCount > 0 }

  /// Runs `body` on the bytes, which are read first if they are not in memory.
  ///
  /// - Throws: ``KVError/file(_:)``, or what `body` throws.
  func withBytes<Result>(
    _ body: (UnsafePointer<UInt8>) throws(KVError) -> Result
  ) throws(KVError) -> Result {
    if let place { return try body(place.base) }
    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
    defer { bytes.deallocate() }
    guard let base = bytes.baseAddress, let stored else {
      preconditionFailure("the page was dropped")
    }
    try stored.read(0..<byteCount, into: base)
    return try body(base.assumingMemoryBound(to: UInt8.self))
  }
}

/// Huge pages cut into pages of one size.
///
/// `@unchecked`: `free` is guarded by the pool's lock.
private final class Slab: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  let byteCount: Int
  let pageBytes: Int
  let pageCapacity: Int
  var free: [Int]

  init?(pageBytes: Int) {
    self.pageBytes = pageBytes
    byteCount = SlabGeometry.slabBytes(pageBytes: pageBytes)
    pageCapacity = byteCount / pageBytes
    free = Array((0..<pageCapacity).reversed())
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
