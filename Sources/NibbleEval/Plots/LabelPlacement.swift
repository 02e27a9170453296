/// Finds a free spot beside each of many points for its label.
struct LabelPlacement {
  /// Where a label is written.
  struct Spot {
    var x: Double
    var y: Double
    var anchor: SVGCanvas.Anchor
  }

  private struct Box {
    var left: Double
    var right: Double
    var top: Double
    var bottom: Double

    func overlap(_ other: Box) -> Double {
      let width = min(right, other.right) - max(left, other.left)
      let height = min(bottom, other.bottom) - max(top, other.top)
      return max(0, width) * max(0, height)
    }
  }

  private let frame: Box
  private var taken: [Box]

  /// Prepares the points, which no label should cover.
  init(
    within frame: (x: ClosedRange<Double>, y: ClosedRange<Double>),
    points: [(x: Double, y: Double)]
  ) {
    self.frame = Box(
      left: frame.x.lowerBound,
      right: frame.x.upperBound,
      top: frame.y.lowerBound,
      bottom: frame.y.upperBound
    )
    taken = points.map { Box(left: $0.x - 6, right: $0.x + 6, top: $0.y - 6, bottom: $0.y + 6) }
  }

  /// Takes the spot that covers least of what is there: right, left, above or below the point, nearer ones first.
  ///
  /// - Complexity: O(labels and points).
  mutating func place(_ label: String, beside point: (x: Double, y: Double)) -> Spot {
    let height = SVGCanvas.smallFontSize
    let width = SVGCanvas.width(of: label, size: height)
    var best: (spot: Spot, box: Box, cost: Double)?
    for (rank, spot) in Self.spots(beside: point).enumerated() {
      let left =
        switch spot.anchor {
        case .start: spot.x
        case .middle: spot.x - width / 2
        case .end: spot.x - width
        }
      let box = Box(left: left, right: left + width, top: spot.y - height + 3, bottom: spot.y + 3)
      let outside = width * height - box.overlap(frame)
      // What leaves the frame may be cut off, so it is worse than what covers something.
      let cost = Double(rank) + taken.reduce(0) { $0 + box.overlap($1) } + 10 * outside
      if best.map({ cost < $0.cost }) ?? true { best = (spot, box, cost) }
    }
    guard let best else { return Spot(x: point.x, y: point.y, anchor: .start) }
    taken.append(best.box)
    return best.spot
  }

  private static func spots(beside point: (x: Double, y: Double)) -> [Spot] {
    let (x, y) = point
    return [0.0, 12, -12, 24, -24].flatMap { (shift: Double) -> [Spot] in
      let middle = shift < 0 ? y - 10 + shift : y + 21 + shift
      return [
        Spot(x: x + 10, y: y + 5 + shift, anchor: .start),
        Spot(x: x - 10, y: y + 5 + shift, anchor: .end),
        Spot(x: x, y: middle, anchor: .middle),
      ]
    }
  }
}
