public import NibbleKV

/// What a cache holds, by where it is; the names of its JSON fields are fixed by Specs/cli.md.
public struct TierBytes: Encodable, Hashable, Sendable {
  /// Bytes of page slabs and working memory: what the budget limits.
  public var memory = 0
  /// Bytes of the disk tier that are in use.
  public var disk = 0
  /// Bytes of the pages that lie there; LZ4 makes some shorter.
  public var diskPages = 0

  private enum CodingKeys: String, CodingKey {
    case memory = "memory_bytes"
    case disk = "disk_bytes"
    case diskPages = "disk_page_bytes"
  }

  /// Nothing held.
  public init() {}

  /// What a cache holds now.
  public init(_ statistics: CacheStatistics) {
    memory = statistics.heldBytes
    disk = statistics.diskBytes
    diskPages = statistics.diskPageBytes
  }
}
