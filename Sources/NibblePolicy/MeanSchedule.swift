/// When a sequence renews the means that it subtracts: at pages 0, 1, 2, 4, 8, ...
package enum MeanSchedule {
  /// Whether the page of this index begins with new means.
  package static func renews(atPage page: Int) -> Bool { page & (page - 1) == 0 }

  /// How many vectors a strip has had after `pages` pages.
  package static func count(pages: Int) -> Int {
    pages == 0 ? 0 : 1 + Int.bitWidth - (pages - 1).leadingZeroBitCount
  }
}
