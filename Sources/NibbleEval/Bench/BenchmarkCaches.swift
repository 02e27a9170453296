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

  /// Measures each cache `runs` times, in turn, so that a machine that slows down does so for all of them.
  ///
  /// - Parameters:
  ///   - caches: What is measured.
  ///   - runs: Rounds.
  ///   - measure: One run, with its name.
  /// - Returns: The runs of each cache.
  static func inTurn<Figures>(
    _ caches: [KVCache],
    runs: Int,
    measure: (_ cache: KVCache, _ phase: String) throws -> Figures
  ) rethrows -> [[Figures]] {
    var figures = caches.map { _ in [Figures]() }
    for round in 1...runs {
      for (index, cache) in caches.enumerated() {
        figures[index].append(try measure(cache, "\(cache.plan.policy.label), run \(round)"))
      }
    }
    return figures
  }
}
