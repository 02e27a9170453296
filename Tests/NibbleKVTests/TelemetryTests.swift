import CoreMetrics
import Foundation
import MetricsTestKit
import Testing

@testable import NibbleKV

/// What a cache tells the host's metrics system.
@Suite struct TelemetryTests {
  private static let text = "linear:4@page_tokens=16@sinks=4@recent=8"

  private let metrics = TestMetrics()

  private func cache(
    budget: ByteBudget = .unlimited,
    prefixLimit: ByteBudget? = nil,
    disk: DiskTier? = nil
  ) throws -> KVCache {
    try withMetricsFactory(metrics) {
      try KVCache(
        model: PromptRows.shape,
        policy: Policy(argument: Self.text),
        budget: budget,
        prefixLimit: prefixLimit,
        disk: disk,
        threads: 1
      )
    }
  }

  private func total(_ name: String) throws -> Int64 {
    try metrics.expectCounter("nibblekv_" + name).values.reduce(0, +)
  }

  private func level(_ name: String, tier: String? = nil) throws -> Double? {
    let dimensions = tier.map { [("tier", $0)] } ?? []
    return try metrics.expectGauge("nibblekv_" + name, dimensions).lastValue
  }

  @Test func bytesFollowWhatIsHeld() throws {
    let cache = try cache(disk: DiskTier(folder: NSTemporaryDirectory()))
    #expect(try level("held_bytes", tier: "memory") == Double(cache.statistics.heldBytes))
    #expect(try level("held_bytes", tier: "disk") == 0)
    var sequence: KVSequence? = cache.makeSequence()
    try sequence.map { try PromptRows.append(PromptRows.tokens(300), by: 50, to: $0) }
    let held = cache.statistics.heldBytes
    #expect(try level("held_bytes", tier: "memory") == Double(held))
    try sequence?.moveToDisk()
    #expect(cache.statistics.heldBytes < held)
    #expect(try level("held_bytes", tier: "memory") == Double(cache.statistics.heldBytes))
    #expect(cache.statistics.diskBytes > 0)
    #expect(try level("held_bytes", tier: "disk") == Double(cache.statistics.diskBytes))
    sequence = nil
    #expect(try level("held_bytes", tier: "disk") == 0)
  }

  @Test func sealedPagesAreCounted() throws {
    let sequence = try cache().makeSequence()
    try PromptRows.append(PromptRows.tokens(300), by: 7, to: sequence)
    // Four sinks; the last append saw 294 tokens, eight of them recent.
    #expect(try total("sealed_pages") == 2 * ((294 - 12) / 16))
    #expect(sequence.statistics.compressedTokens == (294 - 12) / 16 * 16)
  }

  @Test func prefixesAreCounted() throws {
    let cache = try cache(prefixLimit: .bytes(150_000))
    for seed in UInt64(0)..<10 {
      let prompt = PromptRows.tokens(300, seed: seed)
      for _ in 0..<2 {
        let sequence = try cache.makeSequence(continuing: prompt)
        try PromptRows.append(Array(prompt[sequence.tokenCount...]), by: 50, to: sequence)
        cache.remember(sequence)
      }
    }
    let statistics = cache.statistics.prefixes
    #expect(statistics.hits == 10 && statistics.evictions > 0)
    #expect(try total("prefix_lookups") == Int64(statistics.lookups))
    #expect(try total("prefix_hits") == Int64(statistics.hits))
    #expect(try total("prefix_reused_tokens") == Int64(statistics.reusedTokens))
    #expect(try total("prefix_evictions") == Int64(statistics.evictions))
    #expect(try level("prefix_bytes") == Double(statistics.bytes))
    while cache.prefixes.releaseOldest() {}
    #expect(try level("prefix_bytes") == 0)
    #expect(try total("prefix_evictions") == Int64(cache.statistics.prefixes.evictions))
  }

  @Test func aBudgetThatRefusesIsCounted() throws {
    let free = try cache().statistics.heldBytes
    let cache = try cache(budget: .bytes(free + (4 << 20)))
    #expect(try total("budget_exhausted") == 0)
    let sequence = cache.makeSequence()
    #expect(throws: KVError.self) {
      for _ in 0..<100 { try PromptRows.append(PromptRows.tokens(1_000), to: sequence) }
    }
    #expect(try total("budget_exhausted") > 0)
  }
}
