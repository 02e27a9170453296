import Benchmark
import NibbleKV

/// One layer of 128-channel heads, one thread: decode, prefill, sealing and encoding.
let benchmarks: @Sendable () -> Void = {
  Benchmark.defaultConfiguration = .init(
    metrics: [.wallClock, .cpuUser, .peakMemoryResident],
    warmupIterations: 2,
    maxDuration: .seconds(3),
    maxIterations: 1_000
  )
  for (policy, heads) in Workload.combinations {
    decode(policy, heads)
    prefill(policy, heads)
    seal(policy, heads)
  }
  for policy in Workload.policies { encode(policy) }
}

/// One token attends to 16,384.
private func decode(_ policy: String, _ heads: Heads) {
  Benchmark("decode 16384, \(policy), \(heads)") {
    (benchmark: Benchmark, layer: Layer) throws -> Void in
    for _ in benchmark.scaledIterations { try layer.attend() }
  } setup: {
    let layer = try Layer(policy, heads)
    try layer.append(tokens: 16_384)
    return layer
  }
}

/// 2,048 tokens are appended and attended with in chunks of 512.
private func prefill(_ policy: String, _ heads: Heads) {
  Benchmark("prefill 2048, \(policy), \(heads)") {
    (benchmark: Benchmark, layer: Layer) throws -> Void in
    for _ in benchmark.scaledIterations {
      let sequence = layer.fork()
      for _ in 0..<4 { try sequence.step(tokens: 512) }
    }
  } setup: {
    try Layer(policy, heads)
  }
}

/// 64 tokens are decoded after 4,096; one of them seals a page.
private func seal(_ policy: String, _ heads: Heads) {
  Benchmark("seal 4096, \(policy), \(heads)") {
    (benchmark: Benchmark, layer: Layer) throws -> Void in
    for _ in benchmark.scaledIterations {
      let sequence = layer.fork()
      for _ in 0..<64 { try sequence.step(tokens: 1) }
    }
  } setup: {
    let layer = try Layer(policy, heads)
    try layer.append(tokens: 4_096)
    return layer
  }
}

/// One page of keys of one head is encoded.
private func encode(_ policy: String) {
  Benchmark("encode 64 x 128, \(policy)") { (benchmark: Benchmark, page: Page) throws -> Void in
    for _ in benchmark.scaledIterations { blackHole(try page.encoded()) }
  } setup: {
    try Page(policy)
  }
}
