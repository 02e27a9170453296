import NibbleCodec
import NibblePolicy

/// The vectors that were subtracted from the rows of some pages, by KV head; `nil` where the codec keeps the mean.
///
/// Any vectors would do: softmax ignores q·μ in all scores alike, and the weights sum to one. The nearer they are to the
/// true means, the smaller the rows that are left to encode.
struct StripMeans: Sendable {
  var keys: [[Float]?]
  var values: [[Float]?]

  /// What a codec subtracts from the rows of a head; `nil` if it keeps their mean.
  func mean(for codec: StripCodec, head: Int) -> [Float]? {
    guard codec.description.removesMean else { return nil }
    return codec.side == .keys ? keys[head] : values[head]
  }

  /// Bytes of the vectors.
  var byteCount: Int {
    (keys + values).reduce(0) { $0 + ($1?.count ?? 0) * MemoryLayout<Float>.size }
  }
}

/// The means of a layer: which pages were encoded with which vectors, and what is known for the next ones.
///
/// The first page is encoded with its own mean. From then on the mean of all pages so far is taken anew at pages 1, 2,
/// 4, 8, ...: rotary embeddings turn most key channels, so early means say little about later tokens. Each channel is shrunk
/// toward zero by how much its page means scatter (James and Stein 1961, positive part), so that a channel without a steady mean is
/// left alone.
struct LayerMeans: Sendable {
  private(set) var frames: [Frame] = []
  private var trackers: Trackers

  struct Frame: Sendable {
    let firstPage: Int
    var means: StripMeans
  }

  /// Nothing seen yet; `nil` if no codec of the layer removes a mean.
  init?(plan: Plan.Layer) {
    let strips = zip(plan.keys, plan.values).flatMap { [$0, $1] }
    guard strips.contains(where: \.description.removesMean) else { return nil }
    trackers = Trackers(strips: strips.count, dim: strips[0].headDim)
  }

  /// The vectors of a sealed page.
  func means(ofPage page: Int) -> StripMeans? {
    frames.last { $0.firstPage <= page }?.means
  }

  /// The first of `pages`, as many as share vectors.
  func firstStretch(of pages: Range<Int>) -> Range<Int> {
    let next = frames.first { $0.firstPage > pages.lowerBound }
    return pages.clamped(to: pages.lowerBound..<(next?.firstPage ?? .max))
  }

  /// Takes in the mean row of a strip, and begins new vectors where it is time.
  ///
  /// Strips come page by page in the order of KV heads, keys before values.
  mutating func learn(_ mean: UnsafePointer<Float>, page: Int, head: Int, side: KVSide) {
    if frames.last?.firstPage != page, frames.isEmpty || MeanSchedule.renews(atPage: page) {
      let none = [[Float]?](repeating: nil, count: trackers.strips / 2)
      frames.append(Frame(firstPage: page, means: StripMeans(keys: none, values: none)))
    }
    let strip = 2 * head + (side == .keys ? 0 : 1)
    trackers.add(mean, to: strip)
    let last = frames.count - 1
    guard frames[last].firstPage == page else { return }
    switch side {
    case .keys: frames[last].means.keys[head] = trackers.estimate(strip)
    case .values: frames[last].means.values[head] = trackers.estimate(strip)
    }
  }

  /// Forgets the vectors of pages from `count` on.
  ///
  /// What has been learned of the means stays.
  mutating func keepPages(_ count: Int) {
    frames.removeAll { $0.firstPage >= count }
  }

  /// Bytes of the vectors.
  var byteCount: Int { frames.reduce(0) { $0 + $1.means.byteCount } }

  /// Running sums of all strips' page means, in few arrays, so that a copy is made at once.
  private struct Trackers: Sendable {
    let strips: Int
    private let dim: Int
    /// Pages seen, (strips).
    private var pages: [Double]
    /// Sums and sums of squares, (strips, dim).
    private var sums: [Double]
    private var squares: [Double]

    init(strips: Int, dim: Int) {
      self.strips = strips
      self.dim = dim
      pages = Array(repeating: 0, count: strips)
      sums = Array(repeating: 0, count: strips * dim)
      squares = sums
    }

    mutating func add(_ mean: UnsafePointer<Float>, to strip: Int) {
      pages[strip] += 1
      for channel in 0..<dim {
        let value = Double(mean[channel])
        sums[strip * dim + channel] += value
        squares[strip * dim + channel] += value * value
      }
    }

    private func range(_ strip: Int) -> Range<Int> { strip * dim..<(strip + 1) * dim }

    func saved(_ strip: Int) -> SessionIndex.Means.Sums {
      SessionIndex.Means.Sums(
        pages: pages[strip],
        sums: Array(sums[range(strip)]),
        squares: Array(squares[range(strip)])
      )
    }

    mutating func restore(_ strip: Int, _ saved: SessionIndex.Means.Sums) {
      pages[strip] = saved.pages
      sums.replaceSubrange(range(strip), with: saved.sums)
      squares.replaceSubrange(range(strip), with: saved.squares)
    }

    func estimate(_ strip: Int) -> [Float] {
      let count = pages[strip]
      return range(strip).map { index in
        let mean = sums[index] / count
        guard count > 1, mean != 0 else { return Float(mean) }
        let variance = max(0, squares[index] / count - mean * mean) * count / (count - 1)
        return Float(mean * max(0, 1 - variance / (count * mean * mean)))
      }
    }
  }

  // MARK: - Files

  /// What was learned of strips, as a file has it; they are counted head by head, keys before values.
  func saved(strips: [Int]) -> SessionIndex.Means {
    SessionIndex.Means(
      strips: strips.map(trackers.saved),
      frames: frames.map { frame in
        SessionIndex.Means.Frame(
          firstPage: frame.firstPage,
          vectors: strips.map {
            ($0 % 2 == 0 ? frame.means.keys[$0 / 2] : frame.means.values[$0 / 2]) ?? []
          }
        )
      }
    )
  }

  /// Takes what a file has; `nil` if no codec of the layer removes a mean.
  init?(_ saved: SessionIndex.Means, plan: Plan.Layer, strips: [Int]) {
    self.init(plan: plan)
    for (strip, sums) in zip(strips, saved.strips) { trackers.restore(strip, sums) }
    frames = saved.frames.map { frame in
      let none = [[Float]?](repeating: nil, count: plan.keys.count)
      var means = StripMeans(keys: none, values: none)
      for (strip, vector) in zip(strips, frame.vectors) {
        if strip % 2 == 0 {
          means.keys[strip / 2] = vector
        } else {
          means.values[strip / 2] = vector
        }
      }
      return Frame(firstPage: frame.firstPage, means: means)
    }
  }
}
