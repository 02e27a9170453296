public import ArgumentParser
public import NibbleEval
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
  var size: ByteSize?

  @Option(
    name: .customLong("disk"),
    help: ArgumentHelp("A folder for pages that the budget has no room for.", valueName: "dir")
  )
  var folder: String?

  @Option(
    help: ArgumentHelp("The most bytes to put there. Without it, no limit.", valueName: "size")
  )
  var diskLimit: ByteSize?

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

  private static func limit(_ size: ByteSize?) -> ByteBudget {
    size.map { .bytes($0.count) } ?? .unlimited
  }
}

extension ByteSize: ExpressibleByArgument {
  /// Reads the written form.
  public init?(argument: String) {
    self.init(argument)
  }
}
