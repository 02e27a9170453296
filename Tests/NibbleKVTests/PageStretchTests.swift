import Testing

@testable import NibbleKV

/// What a sequence tells about where its tokens lie.
@Suite struct PageStretchTests {
  private static let shape = ModelShape(
    layers: 2,
    queryHeads: 2,
    kvHeads: 1,
    headDim: 64,
    slidingWindows: [nil, 300]
  )

  private func stretches(_ policy: Policy, tokens: Int, layer: Int) throws -> [PageStretch] {
    try Filled(shape: Self.shape, policy: policy, tokens: tokens, chunk: 1).sequence
      .stretches(layer: layer)
  }

  @Test func sinksPagesAndTailFollowEachOther() throws {
    let stretches = try stretches(Policy(argument: "linear:4"), tokens: 300, layer: 0)
    // The 301st token would seal nothing yet: 4 + 3 · 64 + 64 is 260, the next page is due at 324.
    #expect(
      stretches == [
        PageStretch(tokens: 0..<4, kind: .sinks),
        PageStretch(tokens: 4..<196, kind: .sealed(rung: 0)),
        PageStretch(tokens: 196..<300, kind: .exact),
      ]
    )
  }

  @Test func agesAndWindowsAreTold() throws {
    var policy = try Policy(argument: "int8@sinks=0")
    policy.ages = [Policy.Age(beyond: 400, keys: .rotated(2))]
    let aged = try stretches(policy, tokens: 1_001, layer: 0)
    #expect(aged.map(\.kind) == [.sealed(rung: 1), .sealed(rung: 0), .exact])
    #expect(aged.map(\.tokens) == [0..<576, 576..<896, 896..<1_001])
    let windowed = try stretches(policy, tokens: 1_001, layer: 1)
    #expect(windowed.first?.kind == .dropped)
    // Nothing is missing and nothing is told twice.
    #expect(
      zip(windowed, windowed.dropFirst()).allSatisfy {
        $0.tokens.upperBound == $1.tokens.lowerBound
      }
    )
    #expect(windowed.first?.tokens.lowerBound == 0 && windowed.last?.tokens.upperBound == 1_001)
  }

  @Test func littleAndNothing() throws {
    let policy = try Policy(argument: "linear:4")
    #expect(try stretches(policy, tokens: 0, layer: 0).isEmpty)
    #expect(
      try stretches(policy, tokens: 3, layer: 0) == [PageStretch(tokens: 0..<3, kind: .sinks)]
    )
    #expect(try stretches(.float16, tokens: 300, layer: 0).map(\.kind) == [.sinks, .exact])
    #expect(throws: KVError.self) { try stretches(policy, tokens: 1, layer: 2) }
  }
}
