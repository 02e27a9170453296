import NibbleCodec
import NibblePolicy
import Synchronization

/// Working memory of one thread that seals: the rows of a strip, their mean, and what the encoders need.
///
/// `@unchecked`: used by one thread at a time.
final class SealScratch: @unchecked Sendable {
  let rows: UnsafeMutablePointer<Float>
  let mean: UnsafeMutablePointer<Float>
  var strip: StripScratch
  private let sums: UnsafeMutablePointer<Double>

  fileprivate init(plan: Plan) {
    let codecs = plan.layers.flatMap(\.rungs).flatMap { $0.keys + $0.values }
    rows = .allocate(capacity: codecs.map(\.valueCount).max() ?? 0)
    mean = .allocate(capacity: plan.shape.headDim)
    sums = .allocate(capacity: plan.shape.headDim)
    strip = StripScratch(for: codecs)
  }

  deinit {
    rows.deallocate()
    mean.deallocate()
    sums.deallocate()
  }

  /// Leaves the mean of rows (tokens, channels) in ``mean``.
  func takeMean(tokens: Int, channels: Int) {
    sums.update(repeating: 0, count: channels)
    for token in 0..<tokens {
      let row = rows + token * channels
      for channel in 0..<channels { sums[channel] += Double(row[channel]) }
    }
    for channel in 0..<channels { mean[channel] = Float(sums[channel] / Double(tokens)) }
  }
}

/// Scratch that is not in use, kept so that steady decoding takes no memory.
final class SealScratchStore: Sendable {
  private let plan: Plan
  private let free = Mutex<[SealScratch]>([])

  init(plan: Plan) {
    self.plan = plan
  }

  func withScratch<Failure: Error>(
    _ body: (SealScratch) throws(Failure) -> Void
  ) throws(Failure) {
    let scratch = free.withLock { $0.popLast() } ?? SealScratch(plan: plan)
    defer { free.withLock { $0.append(scratch) } }
    try body(scratch)
  }
}
