import NibbleKV

/// What a `nibble_cache_options` says.
struct CacheOptions {
  var policy: UnsafePointer<CChar>?
  var byteBudget: UInt64 = 0
  var threads: UInt64 = 0
  private var fingerprint: UnsafePointer<CChar>?
  private var prefixLimit: UInt64 = 0
  private var diskFolder: UnsafePointer<CChar>?
  private var diskLimit: UInt64 = 0
  private var calibration: UnsafePointer<CChar>?
  private var slidingWindows: UnsafePointer<UInt64>?

  /// All of it 0.
  init() {}

  /// Reads a structure whose first field is its length.
  ///
  /// - Throws: `CallError` for a length that is not possible, and for fields that this library does not know.
  init(_ structure: UnsafeRawPointer) throws(CallError) {
    let fields = try read(10, from: structure, "options")
    policy = UnsafePointer(bitPattern: UInt(fields[1]))
    byteBudget = fields[2]
    threads = fields[3]
    fingerprint = UnsafePointer(bitPattern: UInt(fields[4]))
    prefixLimit = fields[5]
    diskFolder = UnsafePointer(bitPattern: UInt(fields[6]))
    diskLimit = fields[7]
    calibration = UnsafePointer(bitPattern: UInt(fields[8]))
    slidingWindows = UnsafePointer(bitPattern: UInt(fields[9]))
  }

  /// Makes the cache.
  ///
  /// - Parameter shape: A pointer to layers, query heads, KV heads and head dimension.
  /// - Returns: An empty cache.
  /// - Throws: `CallError`, `PolicyError` or `KVError`.
  func cache(shape: UnsafePointer<UInt32>) throws -> KVCache {
    let catalogue = try catalogue()
    return try KVCache(
      model: modelShape(shape, of: catalogue.calibration),
      policy: readPolicy(),
      budget: Self.limit(byteBudget, "byte_budget"),
      prefixLimit: prefixLimit == 0 ? nil : Self.limit(prefixLimit, "prefix_limit"),
      disk: disk(),
      threads: threads == 0 ? nil : count(threads, "threads"),
      catalogue: catalogue
    )
  }

  /// Who does not name the model's weights takes the calibration for theirs.
  private func modelShape(
    _ fields: UnsafePointer<UInt32>,
    of calibration: Calibration?
  ) throws(CallError) -> ModelShape {
    var shape = ModelShape(
      layers: Int(fields[0]),
      queryHeads: Int(fields[1]),
      kvHeads: Int(fields[2]),
      headDim: Int(fields[3]),
      fingerprint: try fingerprint.map { pointer throws(CallError) in
        try text(pointer, "fingerprint")
      } ?? calibration?.fingerprint
    )
    if let slidingWindows {
      shape.slidingWindows = try shape.slidingWindows.indices.map { layer throws(CallError) in
        let window = try count(slidingWindows[layer], "sliding_windows[\(layer)]")
        return window == 0 ? nil : window
      }
    }
    do {
      try shape.validate()
    } catch {
      throw CallError(description: String(describing: error))
    }
    return shape
  }

  private func readPolicy() throws -> Policy {
    guard let policy else { return .balanced }
    let words = try text(policy, "policy")
    let isDocument = words.contains(where: \.isNewline) || words.hasPrefix("{")
    return isDocument ? try Policy(yaml: words) : try Policy(argument: words)
  }

  private func catalogue() throws -> CodecCatalogue {
    var catalogue = CodecCatalogue.standard
    guard let calibration else { return catalogue }
    let path = try text(calibration, "calibration")
    do {
      catalogue.calibration = try Calibration(path: path)
    } catch {
      throw KVError.file(error)
    }
    return catalogue
  }

  private func disk() throws(CallError) -> DiskTier? {
    guard let diskFolder else {
      guard diskLimit == 0 else {
        throw CallError(description: "disk_limit is \(diskLimit), but disk_folder is NULL")
      }
      return nil
    }
    return DiskTier(
      folder: try text(diskFolder, "disk_folder"),
      limit: try Self.limit(diskLimit, "disk_limit")
    )
  }

  /// A limit in bytes, where 0 is none.
  private static func limit(_ byteCount: UInt64, _ name: String) throws(CallError) -> ByteBudget {
    byteCount == 0 ? .unlimited : .bytes(try count(byteCount, name))
  }
}
