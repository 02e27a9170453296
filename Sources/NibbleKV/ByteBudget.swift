/// The most bytes that a cache may hold, slabs and working memory included.
public struct ByteBudget: Hashable, Sendable {
  /// The limit; `nil` where there is none.
  public let byteLimit: Int?

  /// No limit.
  public static let unlimited = ByteBudget(byteLimit: nil)

  /// A limit in bytes.
  ///
  /// Negative counts are taken as 0, so that nothing fits.
  public static func bytes(_ count: Int) -> ByteBudget { ByteBudget(byteLimit: max(0, count)) }

  /// A limit in units of 2^20 bytes.
  public static func mebibytes(_ count: Int) -> ByteBudget { scaled(count, by: 1 << 20) }

  /// A limit in units of 2^30 bytes.
  public static func gibibytes(_ count: Int) -> ByteBudget { scaled(count, by: 1 << 30) }

  private static func scaled(_ count: Int, by unit: Int) -> ByteBudget {
    let (bytes, overflow) = max(0, count).multipliedReportingOverflow(by: unit)
    return ByteBudget(byteLimit: overflow ? .max : bytes)
  }
}
