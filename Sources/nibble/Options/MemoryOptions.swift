import ArgumentParser
import NibbleKV

/// What a cache may hold in memory, and where it puts what has no place there.
struct MemoryOptions: ParsableArguments {
  @Option(
    name: .customLong("budget"),
    help: ArgumentHelp(
      "The most bytes that the cache holds in memory, such as 512MiB. Without it, no limit.",
      valueName: "size"
    )
  )
  var size: ByteCount?

  @Option(
    name: .customLong("disk"),
    help: ArgumentHelp("A folder for pages that the budget has no room for.", valueName: "dir")
  )
  var folder: String?

  @Option(
    help: ArgumentHelp("The most bytes to put there. Without it, no limit.", valueName: "size")
  )
  var diskLimit: ByteCount?

  func validate() throws {
    if folder != nil, size == nil {
      throw ValidationError("--disk takes what a budget has no room for: give --budget SIZE too.")
    }
    if diskLimit != nil, folder == nil {
      throw ValidationError("--disk-limit is for the folder of --disk DIR, which is not given.")
    }
  }

  var budget: ByteBudget { Self.limit(size) }

  var disk: DiskTier? { folder.map { DiskTier(folder: $0, limit: Self.limit(diskLimit)) } }

  private static func limit(_ size: ByteCount?) -> ByteBudget {
    size.map { .bytes($0.count) } ?? .unlimited
  }
}

/// A number of bytes as it is written on the command line: `65536`, `64KiB`, `512MiB`, `2GiB`, `1TiB`.
struct ByteCount: ExpressibleByArgument {
  var count: Int

  init?(argument: String) {
    let digits = argument.prefix(while: \.isNumber)
    let units = ["": 0, "b": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40]
    guard let number = Int(digits), number >= 0,
      let shift = units[argument.dropFirst(digits.count).lowercased()]
    else { return nil }
    let (count, overflow) = number.multipliedReportingOverflow(by: 1 << shift)
    guard !overflow else { return nil }
    self.count = count
  }
}
