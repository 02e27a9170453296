internal import CNibble
import NibbleCodec
import NibblePolicy

/// What one sequence holds of one layer: a sink page, sealed pages, exact pages.
///
/// A value: forks copy it and share the pages.
struct LayerState: Sendable {
  /// Tokens of the layer.
  var tokenCount = 0
  /// The first tokens, exact for good.
  private(set) var sinkPage: Page?
  /// Pages of `pageTokens` tokens after the sinks; the last may be partly filled.
  var pages: [Page] = []
  /// How many of `pages`, from the front, are sealed.
  var sealedCount = 0 {
    didSet { limitAges(to: sealedCount) }
  }
  /// By rung from the second on: how many of `pages`, from the front, are at least as old.
  ///
  /// Empty before a page is encoded again.
  var agedCounts: [Int] = []
  /// What was subtracted from sealed rows; `nil` before the first page is sealed, and where nothing is subtracted.
  var means: LayerMeans?
  /// What is encoded already of the page that will be sealed next.
  var ahead: PageAhead?
  /// Base addresses of `pages`, as the kernels take them; null where a page is not in memory.
  private(set) var addresses: [Address] = []
  /// How many of `pages`, from the front, were dropped behind a sliding window.
  private(set) var droppedCount = 0
  /// How many of `pages`, and the sinks, must be read from a file.
  private(set) var storedCount = 0

  struct Address: @unchecked Sendable {
    let base: UnsafePointer<UInt8>?
  }

  mutating func append(_ page: Page) {
    pages.append(page)
    addresses.append(Address(page))
    if page.isStoredOnly { storedCount += 1 }
  }

  mutating func replace(_ index: Int, with page: Page) {
    if pages[index].isStoredOnly { storedCount -= 1 }
    pages[index] = page
    addresses[index] = Address(page)
    if page.isStoredOnly { storedCount += 1 }
  }

  mutating func keepPages(_ count: Int) {
    for page in pages[count...] where page.isStoredOnly { storedCount -= 1 }
    pages.removeLast(pages.count - count)
    addresses.removeLast(addresses.count - count)
    droppedCount = min(droppedCount, count)
    limitAges(to: count)
  }

  private mutating func limitAges(to count: Int) {
    for rung in agedCounts.indices { agedCounts[rung] = min(agedCounts[rung], count) }
  }

  /// Whether there is a sink page that no other sequence shares.
  mutating func ownsSinkPage() -> Bool {
    sinkPage != nil && isKnownUniquelyReferenced(&sinkPage)
  }

  /// Lets go of pages from the front.
  mutating func dropPages(_ count: Int) {
    for index in droppedCount..<max(count, droppedCount) { replace(index, with: .dropped) }
    droppedCount = max(count, droppedCount)
  }

  mutating func setSinkPage(_ page: Page?) {
    if sinkPage?.isStoredOnly ?? false { storedCount -= 1 }
    sinkPage = page
    if page?.isStoredOnly ?? false { storedCount += 1 }
  }

  /// The page at an index, the sinks at -1.
  subscript(page index: Int) -> Page? { index < 0 ? sinkPage : pages[index] }

  /// What a sealed page is encoded as, of the plan's rungs.
  func rung(of page: Int) -> Int {
    agedCounts.reduce(0) { $0 + (page < $1 ? 1 : 0) }
  }

  /// Sealed pages by rung, but for those that were dropped.
  func heldPages(rungs: Int) -> [Int] {
    let reached = (0...rungs).map { max(0, agedCount(rung: $0) - droppedCount) }
    return (0..<rungs).map { reached[$0] - reached[$0 + 1] }
  }

  /// Pages, from the front, that are at least as old as a rung; all sealed ones for the first.
  func agedCount(rung: Int) -> Int {
    rung == 0 ? sealedCount : rung <= agedCounts.count ? agedCounts[rung - 1] : 0
  }

  /// The first of sealed `pages`, as many as share their means and their rung.
  func firstStretch(of pages: Range<Int>) -> Range<Int> {
    var stretch = means?.firstStretch(of: pages) ?? pages
    for count in agedCounts where stretch.contains(count) && count > stretch.lowerBound {
      stretch = stretch.lowerBound..<count
    }
    return stretch
  }

  /// Whether the page at an index never changes again.
  func isSealed(_ index: Int) -> Bool { index >= 0 && index < sealedCount }

  /// Puts a page with the same bytes in the place of another.
  mutating func move(_ index: Int, to page: Page) {
    if index < 0 { setSinkPage(page) } else { replace(index, with: page) }
  }
}

extension LayerState.Address {
  fileprivate init(_ page: Page) { base = UnsafePointer(page.memory) }
}

/// A page that is encoded strip by strip while its rows still serve exactly.
struct PageAhead: Sendable {
  var page: Page
  /// Strips that are encoded, in the order of KV heads, keys before values.
  var stripCount = 0
  /// The layer's means with those of these strips.
  var means: LayerMeans?
}

/// The numbers that decide where a token lies.
///
/// Pure arithmetic, shared by append, attention and truncation.
struct LayerGeometry: Sendable {
  let sinks: Int
  let recent: Int
  let pageTokens: Int
  /// Positions that a query sees, its own included; `nil` where it sees all.
  let window: Int?
  /// Whether pages are encoded at all: not where the plan keeps them as exact as the tail.
  let seals: Bool

  init(plan: Plan, layer index: Int) {
    let layer = plan.layers[index]
    window = plan.shape.slidingWindows[index]
    sinks = plan.policy.sinks
    recent = plan.policy.recent
    pageTokens = plan.policy.pageTokens
    seals =
      !(layer.keys.allSatisfy { $0.description == layer.exactKeys.description }
      && layer.values.allSatisfy { $0.description == layer.exactValues.description })
  }

  /// Tokens in the sink page, of `tokens`.
  func sinkTokens(of tokens: Int) -> Int { min(tokens, sinks) }

  /// Tokens after the sinks, of `tokens`.
  func pagedTokens(of tokens: Int) -> Int { max(0, tokens - sinks) }

  /// Pages begun by `tokens`.
  func pageCount(of tokens: Int) -> Int {
    (pagedTokens(of: tokens) + pageTokens - 1) / pageTokens
  }

  /// Pages all of whose tokens are older than the `recent` newest of `tokens`.
  func sealablePages(of tokens: Int) -> Int {
    seals ? max(0, tokens - sinks - recent) / pageTokens : 0
  }

  /// Pages, from the front, that appends leave alone.
  func settledPages(of state: LayerState) -> Int {
    seals ? state.sealedCount : pagedTokens(of: state.tokenCount) / pageTokens
  }

  /// Pages that no query of a token from `tokens` on sees.
  ///
  /// The `recent` tokens before its window stay as well, so that so many tokens can be taken back.
  func pagesBehindWindow(of tokens: Int) -> Int {
    guard let window else { return 0 }
    return WindowSchedule.droppedPages(
      tokens: tokens,
      window: window,
      sinks: sinks,
      recent: recent,
      pageTokens: pageTokens
    )
  }

  /// Pages of a layer that are at least as old as a rung asks for.
  func agedPages(of tokens: Int, rung: Plan.Rung) -> Int {
    max(0, tokens - sinks - rung.beyond) / pageTokens
  }

  /// The first position that the query after `tokens` tokens sees.
  func firstPositionSeen(after tokens: Int) -> Int {
    window.map { max(0, tokens - ($0 - 1)) } ?? 0
  }

  /// Whether a layer that is cut to `tokens` still holds what the next query sees.
  func holds(_ state: LayerState, after tokens: Int) -> Bool {
    // Without pages nothing is missing; what follows begins anew.
    guard state.droppedCount > 0, pageCount(of: tokens) > 0 else { return true }
    return firstPositionSeen(after: tokens)
      >= firstHeldPosition(droppedPages: state.droppedCount)
  }

  /// The first position after the sinks that is held when so many pages were dropped.
  func firstHeldPosition(droppedPages: Int) -> Int { sinks + droppedPages * pageTokens }

  /// Strips of the next page to seal that should be encoded once there are `tokens`.
  ///
  /// The work spreads over the last tokens before the page is due: `pageTokens` of them, or `recent` if that is
  /// less, because the page must be full.
  ///
  /// `phase` (0 ..< 1) shifts the steps of one layer against those of another.
  func stripsAhead(of tokens: Int, sealedPages: Int, stripsOfPage: Int, phase: Double) -> Int {
    let span = min(recent, pageTokens)
    guard seals, span > 0 else { return 0 }
    let due = sinks + recent + (sealedPages + 1) * pageTokens
    let passed = tokens - (due - span)
    guard passed > 0 else { return 0 }
    return min(stripsOfPage, Int(Double(stripsOfPage * passed) / Double(span) + phase))
  }
}
