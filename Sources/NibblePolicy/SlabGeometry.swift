/// How large slabs are: stretches of memory that begin and end at 2 MiB, the size of a huge page, and that pages of all sizes share.
package enum SlabGeometry {
  /// Bytes of a huge page.
  package static let hugePageBytes = 2 << 20

  /// Bytes of a slab that is added for pages of `pageBytes`: the fewest huge pages, up to eight, that waste at most 1/32.
  package static func slabBytes(pageBytes: Int) -> Int {
    for count in 1...8 {
      let bytes = count * hugePageBytes
      if pageBytes <= bytes, bytes % pageBytes <= bytes / 32 { return bytes }
    }
    let least = (pageBytes + hugePageBytes - 1) / hugePageBytes * hugePageBytes
    return max(least, 8 * hugePageBytes)
  }

  /// Pages of `pageBytes` that fit in such a slab.
  package static func pagesPerSlab(pageBytes: Int) -> Int {
    slabBytes(pageBytes: pageBytes) / pageBytes
  }
}
