import NibbleKV

/// The caches of a benchmark.
enum BenchmarkCaches {
  /// Makes one cache for each policy.
  ///
  /// It comes before anything is measured: a policy that does not fit must not be found out after minutes. Those that need
  /// a calibration get one that was made up.
  ///
  /// - Throws: `KVError` for a wrong shape or a policy that does not fit it.
  static func make(_ policies: [Policy], shape: ModelShape, threads: Int) throws -> [KVCache] {
    do { try shape.validate() } catch { throw KVError.policy(error) }
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = try .decaying(shape)
    return try policies.map {
      try KVCache(model: shape, policy: $0, threads: threads, catalogue: catalogue)
    }
  }
}
