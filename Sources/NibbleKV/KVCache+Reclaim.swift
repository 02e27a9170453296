internal import Logging

extension KVCache {
  /// Makes room in memory; `false` if there is nothing left to do.
  ///
  /// Remembered prompts are forgotten first. Then idle sequences lose their pages to the disk tier, the least recently used first. A sequence that somebody uses right now
  /// is not idle, and never waited for.
  func reclaim() -> Bool {
    if prefixes.releaseOldest() { return true }
    guard let spill else { return false }
    for sequence in sequences.leastRecentFirst() where sequence.moveToDiskIfIdle(spill) > 0 {
      return true
    }
    return false
  }

  /// Tells of a failure that nobody is thrown: what could not be moved to disk stays where it was.
  func report(_ error: KVError) {
    Logger(label: "nibblekv.cache").warning("a page could not be moved to disk: \(error)")
  }

  func mover(layer: Int) -> PageMover {
    PageMover(
      plan: layers[layer].plan,
      geometry: layers[layer].geometry,
      pool: pool,
      workers: workers
    )
  }
}
