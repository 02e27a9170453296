import NibbleGenerate
import Testing

@testable import NibbleEval

@Suite struct BitAllotmentTests {
  private static func choices(_ costs: [Double], _ losses: [Double]) -> [AllotmentChoice] {
    zip(costs, losses).map { AllotmentChoice(cost: $0, loss: $1) }
  }

  @Test func hullsLeaveOutWhatNoPriceWouldTake() {
    // 3 lies above the line from 2 to 4, 8 loses more than 4 and costs more.
    let choices = Self.choices([4, 2, 3, 8, 1], [1, 4, 3.5, 2, 16])
    #expect(lowerHull(choices) == [4, 1, 0])
    #expect(lowerHull(Self.choices([1, 1, 1], [3, 2, 2])) == [1])
    // Equal slopes: the middle one is not needed.
    #expect(lowerHull(Self.choices([1, 2, 3], [3, 2, 1])) == [0, 2])
  }

  /// Of all allotments, those that some price takes cannot be bettered at their cost.
  @Test(arguments: 1...20 as ClosedRange<UInt64>)
  func nothingIsBetterAtTheCostOfAHullsStep(seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let units = (0..<5).map { _ in
      let weight = Double.random(in: 0.1...10, using: &generator)
      return (1...4).map { bits in
        AllotmentChoice(
          cost: Double(bits),
          loss: weight * Double.random(in: 0.5...2, using: &generator) / Double(1 << (2 * bits))
        )
      }
    }
    let allotments = BitAllotment(units)
    var all = [[Int]()]
    for choices in units { all = all.flatMap { list in choices.indices.map { list + [$0] } } }
    // As far as steps are taken in order, without filling up what is left.
    var seen: [[Int]] = []
    _ = allotments.best { allotment -> Bool in
      seen.append(allotment)
      return true
    }
    #expect(seen.count > 5)
    for allotment in seen {
      let cost = allotments.cost(of: allotment)
      let best = all.filter { allotments.cost(of: $0) <= cost }.map(allotments.loss).min()
      #expect(try #require(best) >= allotments.loss(of: allotment) - 1e-12)
    }
  }

  @Test func whatIsLeftIsFilled() {
    let allotments = BitAllotment([
      Self.choices([1, 5], [100, 0]), Self.choices([1, 2], [3, 0]), Self.choices([1, 2], [2, 0]),
    ])
    // The first step would cost 4 more, and only 1 is left: the next steepest one is taken.
    let found = allotments.best { allotments.cost(of: $0) <= 4 }
    #expect(found == [0, 1, 0])
    #expect(allotments.best { allotments.cost(of: $0) <= 8 } == [1, 1, 0])
    #expect(allotments.best { allotments.cost(of: $0) < 3 } == nil)
  }
}

@Suite struct TuningBudgetTests {
  @Test func writtenForms() throws {
    #expect(try TuningBudget(parsing: "4.0bits") == .bitsPerValue(4))
    #expect(try TuningBudget(parsing: "0.25x") == .share(0.25))
    #expect(try TuningBudget(parsing: "2GiB@128k") == .bytes(2 << 30, context: 131_072))
    #expect(try TuningBudget(parsing: "512MiB@4096") == .bytes(512 << 20, context: 4_096))
  }

  @Test(arguments: [
    "", "4", "4 bits", "0bits", "nanbits", "infbits", "33bits", "-1x", "3x", "0x", "nanx", "2GiB",
    "2GiB@", "@4k", "0@4k", "2GiB@0", "2GiB@99m", "2GiB@4k@4k", "2GiB@-4",
  ])
  func otherFormsAreRefused(text: String) {
    #expect(throws: EvaluationError.self) { try TuningBudget(parsing: text) }
  }
}
