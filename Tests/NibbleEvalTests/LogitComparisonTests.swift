import Foundation
import Testing

@testable import NibbleEval

@Suite struct LogitComparisonTests {
  @Test func identicalLogitsDoNotDiverge() throws {
    let logits: [Float] = [0.3, -12, 4.75, 4.5, 88, -1e4]
    let comparison = try #require(
      LogitComparison(exact: logits, compressed: logits, next: 2)
    )
    #expect(comparison.divergence == 0)
    #expect(comparison.sameTop)
    #expect(comparison.negativeLogLikelihood == comparison.exactNegativeLogLikelihood)
  }

  @Test func divergenceOfAHandComputedExample() throws {
    // p = (1/2, 1/4, 1/4) and q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 - 1/4 ln 2.
    let exact = [0.5, 0.25, 0.25].map { Float(log($0)) }
    let compressed = [0.25, 0.5, 0.25].map { Float(log($0)) }
    let comparison = try #require(LogitComparison(exact: exact, compressed: compressed, next: 0))
    #expect(abs(comparison.divergence - 0.25 * log(2.0)) < 1e-6)
    #expect(!comparison.sameTop)
    #expect(abs((comparison.exactNegativeLogLikelihood ?? 0) - log(2.0)) < 1e-6)
    #expect(abs((comparison.negativeLogLikelihood ?? 0) - log(4.0)) < 1e-6)
  }

  @Test func directionIsExactToCompressed() throws {
    // p = (3/4, 1/4), q = (1/2, 1/2): KL(p‖q) = 0.75 ln 1.5 + 0.25 ln 0.5.
    let p = [0.75, 0.25].map { Float(log($0)) }
    let comparison = try #require(LogitComparison(exact: p, compressed: [1, 1], next: nil))
    #expect(abs(comparison.divergence - (0.75 * log(1.5) + 0.25 * log(0.5))) < 1e-6)
    #expect(comparison.negativeLogLikelihood == nil)
  }

  @Test func aConstantDoesNotMatter() throws {
    let exact: [Float] = [1, 2, 3]
    let comparison = try #require(
      LogitComparison(exact: exact, compressed: [1001, 1002, 1003], next: 1)
    )
    #expect(comparison.divergence < 1e-9)
  }

  @Test func theLowestTokenWinsTies() throws {
    let comparison = try #require(
      LogitComparison(exact: [1, 5, 5], compressed: [1, 5, 4], next: nil)
    )
    #expect(comparison.sameTop)
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func logitsThatAreNotFiniteAreRefused(bad: Float) {
    #expect(LogitComparison(exact: [0, bad], compressed: [0, 0], next: nil) == nil)
    #expect(LogitComparison(exact: [0, 0], compressed: [bad, 0], next: nil) == nil)
  }

  @Test func lengthsAndTokensAreChecked() {
    #expect(LogitComparison(exact: [], compressed: [], next: nil) == nil)
    #expect(LogitComparison(exact: [1], compressed: [1, 2], next: nil) == nil)
    #expect(LogitComparison(exact: [1, 2], compressed: [1, 2], next: 2) == nil)
  }
}
