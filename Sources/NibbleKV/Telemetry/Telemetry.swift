internal import CoreMetrics
internal import Logging
import Synchronization

/// What a cache tells the host's metrics system and its log; Specs/telemetry.md has the names.
///
/// Handlers are made once for each cache, by the metrics factory of that moment. Where there is none, all of this does nothing.
final class Telemetry: Sendable {
  private let sealedPages = Counter(label: "nibblekv_sealed_pages")
  private let prefixLookups = Counter(label: "nibblekv_prefix_lookups")
  private let prefixHits = Counter(label: "nibblekv_prefix_hits")
  private let prefixReusedTokens = Counter(label: "nibblekv_prefix_reused_tokens")
  private let prefixEvictions = Counter(label: "nibblekv_prefix_evictions")
  private let budgetExhausted = Counter(label: "nibblekv_budget_exhausted")

  let memoryBytes = Level("nibblekv_held_bytes", dimensions: [("tier", "memory")])
  let diskBytes = Level("nibblekv_held_bytes", dimensions: [("tier", "disk")])
  let prefixBytes = Level("nibblekv_prefix_bytes")

  private let log = Logger(label: "nibblekv.cache")

  /// A gauge that is told of changes only, and ends with the newest value whoever comes last.
  final class Level: Sendable {
    private let gauge: Gauge
    private let last = Mutex(0)

    init(_ label: String, dimensions: [(String, String)] = []) {
      gauge = Gauge(label: label, dimensions: dimensions)
      gauge.record(0)
    }

    /// Records what `value` returns; it is asked alone, so nobody can overtake it with an older value.
    func note(_ value: () -> Int) {
      last.withLock { last in
        let value = value()
        guard value != last else { return }
        last = value
        gauge.record(value)
      }
    }
  }

  /// Pages of a layer were sealed.
  func noteSealed(pages: Int) { sealedPages.increment(by: pages) }

  /// A prompt was looked up, and so many of its tokens found; `nil` if none.
  func notePrefixLookup(reusedTokens: Int?) {
    prefixLookups.increment()
    guard let reusedTokens else { return }
    prefixHits.increment()
    prefixReusedTokens.increment(by: reusedTokens)
  }

  /// Nothing is left that could make room in memory.
  func noteBudgetExhausted() {
    budgetExhausted.increment()
    log.debug("the budget is exhausted, and there is nothing to let go of")
  }

  /// A page could not be moved to disk, and stays where it was; nobody is thrown this.
  func noteNotMoved(_ error: KVError) {
    log.warning("a page could not be moved to disk: \(error)")
  }

  /// Remembered sequences were shortened or forgotten.
  func notePrefixEvictions(_ count: Int, bytes: Int) {
    guard count > 0 else { return }
    prefixEvictions.increment(by: count)
    log.debug(
      "remembered prompts gave way",
      metadata: ["evictions": "\(count)", "bytes": "\(bytes)"]
    )
  }
}
