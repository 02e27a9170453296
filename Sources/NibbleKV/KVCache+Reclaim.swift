extension KVCache {
  /// Makes room in memory; `false` if there is nothing left to do.
  ///
  /// Of remembered prompts goes first what no sequence uses. Then idle sequences lose their pages to the disk tier, the least
  /// recently used first. A sequence that somebody uses right now is not idle, and never waited for. At last the pages of idle
  /// sequences are encoded again to their next age before their time, if the policy has ages.
  func reclaim() -> Bool {
    if prefixes.releaseOldest() { return true }
    let idle = sequences.leastRecentFirst()
    if let spill {
      for sequence in idle where sequence.moveToDiskIfIdle(spill) > 0 { return true }
    }
    guard plan.hasAges else { return false }
    for sequence in idle where sequence.ageIfIdle() > 0 { return true }
    return false
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
