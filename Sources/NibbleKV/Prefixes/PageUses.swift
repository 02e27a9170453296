/// How many of some sequences hold each page in memory; the bytes of a page that several share count once.
struct PageUses: Sendable {
  private(set) var byteCount = 0
  private var counts: [ObjectIdentifier: Int] = [:]

  mutating func add(_ page: Page) {
    guard page.memory != nil else { return }
    let count = counts[ObjectIdentifier(page), default: 0]
    if count == 0 { byteCount += page.byteCount }
    counts[ObjectIdentifier(page)] = count + 1
  }

  mutating func remove(_ page: Page) {
    guard page.memory != nil, let count = counts[ObjectIdentifier(page)] else { return }
    counts[ObjectIdentifier(page)] = count > 1 ? count - 1 : nil
    if count == 1 { byteCount -= page.byteCount }
  }

  /// Whether one of the sequences holds the page, and no other.
  func isOnlyOnce(_ page: Page) -> Bool { counts[ObjectIdentifier(page)] == 1 }
}
