internal import CNibble
import Synchronization

/// How much of a layer's softmax weights attention may leave out, and how often it did.
final class LayerSkipping: Sendable {
  private let skipBelow: Double
  private let attendedPages = Atomic(0)
  private let skippedPages = Atomic(0)
  private let attendedStretches = Atomic(0)
  private let skippedStretches = Atomic(0)

  init(skipBelow: Double) {
    self.skipBelow = skipBelow
  }

  /// What one of `tokens` tokens may have of a row's weight and still be left out.
  ///
  /// Half of the policy's share is for pages, half for values. A little is kept back for the rounding of sums.
  func share(ofTokens tokens: Int) -> Float {
    Float(skipBelow / 2 / Double(tokens) * (1 - 0x1p-10))
  }

  /// Adds what the kernels counted in one run of pages.
  func count(_ skip: nibble_skip) {
    attendedPages.wrappingAdd(Int(skip.attended_pages), ordering: .relaxed)
    skippedPages.wrappingAdd(Int(skip.skipped_pages), ordering: .relaxed)
    attendedStretches.wrappingAdd(Int(skip.attended_stretches), ordering: .relaxed)
    skippedStretches.wrappingAdd(Int(skip.skipped_stretches), ordering: .relaxed)
  }

  var counts: SkippingCounts {
    SkippingCounts(
      attendedPages: attendedPages.load(ordering: .relaxed),
      skippedPages: skippedPages.load(ordering: .relaxed),
      attendedStretches: attendedStretches.load(ordering: .relaxed),
      skippedStretches: skippedStretches.load(ordering: .relaxed)
    )
  }
}
