import Foundation

/// Which tokens lie in which kind of page, a band for each strip kind.
package struct PageMap: Plot {
  /// Tokens that are stored alike.
  package struct Stretch: Hashable, Sendable {
    package var tokens: Range<Int>
    /// What they are stored as, in the legend's words.
    package var kind: String
    /// Bits per value: the height of the bar.
    package var bitsPerValue: Double
  }

  /// One band.
  package struct Row: Hashable, Sendable {
    package var name: String
    /// What is not in any stretch is not held.
    package var stretches: [Stretch]
  }

  package var title: String
  package var verticalTitle: String
  package var tokens: Int
  /// Where pages begin.
  package var pageStarts: [Int]
  package var rows: [Row]

  package func draw(on canvas: inout SVGCanvas) -> Double {
    let frame = Frame(rows: rows, tokens: tokens)
    let kinds = Self.kinds(of: rows)
    axis(frame, on: &canvas)
    for (index, row) in rows.enumerated() {
      let bottom = frame.bottom(of: index)
      if frame.isLabelled(index) {
        canvas.text(row.name, x: frame.left - 8, y: bottom - 4, anchor: .end)
      }
      for stretch in row.stretches {
        let color = canvas.theme.color(kinds.firstIndex(of: stretch.kind) ?? 0)
        bar(stretch, color: color, bottom: bottom, frame: frame, on: &canvas)
      }
      canvas.line(frame.left, bottom, frame.right, bottom)
    }
    pageEdges(frame, on: &canvas)
    let entries = kinds.enumerated().map { index, kind in
      (sample: SVGCanvas.Sample.surface(canvas.theme.color(index)), name: kind)
    }
    let top = frame.bottom + 62
    return top + canvas.legend(entries, top: top)
  }

  /// Kinds in the order of their bits, the most first.
  private static func kinds(of rows: [Row]) -> [String] {
    var bits: [String: Double] = [:]
    for stretch in rows.flatMap(\.stretches) { bits[stretch.kind] = stretch.bitsPerValue }
    return bits.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map(\.key)
  }

  private func bar(
    _ stretch: Stretch,
    color: String,
    bottom: Double,
    frame: Frame,
    on canvas: inout SVGCanvas
  ) {
    let height = frame.barHeight(bits: stretch.bitsPerValue)
    let (x, end) = (frame.x(stretch.tokens.lowerBound), frame.x(stretch.tokens.upperBound))
    let bits = NumberText.decimal(stretch.bitsPerValue, 2)
    let last = stretch.tokens.upperBound - 1
    let place = "tokens \(stretch.tokens.lowerBound) to \(last)"
    canvas.rectangle(
      x: x,
      y: bottom - height,
      // A few sinks among many tokens would not be seen.
      width: max(3, end - x),
      height: height,
      fill: color,
      tip: "\(stretch.kind), \(bits) bits per value, \(place)"
    )
  }

  private func axis(_ frame: Frame, on canvas: inout SVGCanvas) {
    canvas.verticalText(verticalTitle, x: 22, y: (frame.top + frame.bottom) / 2)
    let middle = (frame.left + frame.right) / 2
    canvas.text("token", x: middle, y: frame.bottom + 48, anchor: .middle)
    for tick in frame.range.ticks where Int(tick) <= tokens {
      canvas.line(frame.x(Int(tick)), frame.bottom, frame.x(Int(tick)), frame.bottom + 6)
      canvas.text(
        NumberText.decimal(tick, 0),
        x: frame.x(Int(tick)),
        y: frame.bottom + 24,
        anchor: .middle
      )
    }
  }

  /// Cuts between pages, where they are wide enough to be told apart.
  private func pageEdges(_ frame: Frame, on canvas: inout SVGCanvas) {
    guard pageStarts.count > 1, frame.x(pageStarts[1]) - frame.x(pageStarts[0]) >= 4 else {
      return
    }
    for start in pageStarts.dropFirst() {
      let x = frame.x(start)
      canvas.line(x, frame.top, x, frame.bottom, color: canvas.theme.background)
    }
  }
}

private struct Frame {
  let left: Double
  let right = 600.0
  let top = 44.0
  let rowHeight: Double
  let rowCount: Int
  let range: AxisRange
  let tokens: Int

  init(rows: [PageMap.Row], tokens: Int) {
    let longest = rows.map { SVGCanvas.width(of: $0.name) }.max() ?? 0
    left = min(260, max(104, 44 + longest))
    rowHeight = rows.count <= 12 ? 30 : rows.count <= 32 ? 20 : 12
    rowCount = rows.count
    range = AxisRange([0, Double(max(1, tokens))], scale: .linear, ticks: 5)
    self.tokens = max(1, tokens)
  }

  var bottom: Double { top + rowHeight * Double(rowCount) }

  func bottom(of row: Int) -> Double { top + rowHeight * Double(row + 1) }

  func x(_ token: Int) -> Double {
    left + Double(token) / Double(tokens) * (right - left)
  }

  /// By the logarithm, so that two bits and three differ and sixteen still fit.
  func barHeight(bits: Double) -> Double {
    let share = log2(1 + max(0, bits)) / log2(33)
    return max(2, min(1, share) * (rowHeight - 4))
  }

  func isLabelled(_ row: Int) -> Bool {
    row % max(1, Int((20 / rowHeight).rounded(.up))) == 0
  }
}
