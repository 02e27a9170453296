/// Lines and points over two axes.
package struct LineChart: Plot {
  /// One line, or points that belong together.
  package struct Series: Sendable {
    /// How the points are drawn.
    package enum Style: Hashable, Sendable {
      /// A line through points that were measured.
      case line
      /// Points alone.
      case points
      /// A line alone, for what follows from a formula or joins points of other series.
      case curve
    }

    /// Its name in the legend.
    package var name: String
    /// Its points from left to right; those that an axis has no place for are left out.
    package var points: [Point]
    package var style = Style.line
    /// Its number among colours, shapes and dashes, where another chart shows the same; else its place in the chart.
    package var number: Int?
  }

  /// A point in the units of the axes.
  package struct Point: Hashable, Sendable {
    package var x: Double
    package var y: Double
    /// What the point is called, instead of the series' name.
    package var label: String?
    /// Whether the label stands beside the point; a pointer brings it up anyway.
    package var isNamed = true
    /// Where `y` may lie instead, drawn as a vertical line.
    package var interval: ClosedRange<Double>?
  }

  package var title: String
  package var horizontal: PlotAxis
  package var vertical: PlotAxis
  package var series: [Series]

  package func draw(on canvas: inout SVGCanvas) -> Double {
    let drawn = series.map { series in
      var series = series
      series.points = series.points.filter { horizontal.holds($0.x) && vertical.holds($0.y) }
      return series
    }
    let frame = Frame(points: drawn.flatMap(\.points), horizontal, vertical)
    captions(frame, on: &canvas)
    grid(frame, on: &canvas)
    for (index, series) in drawn.enumerated() {
      line(series.number ?? index, series, frame, on: &canvas)
    }
    labels(drawn, frame, on: &canvas)
    let entries = drawn.enumerated().filter { !$0.element.name.isEmpty }
      .map {
        (
          sample: Self.sample($0.element.style, $0.element.number ?? $0.offset),
          name: $0.element.name
        )
      }
    return Frame.height + canvas.legend(entries, top: Frame.height)
  }
}

extension LineChart {
  private func captions(_ frame: Frame, on canvas: inout SVGCanvas) {
    let middle = (frame.left + frame.right) / 2
    canvas.text(horizontal.title, x: middle, y: Frame.height - 12, anchor: .middle)
    canvas.verticalText(vertical.title, x: 22, y: (frame.top + frame.bottom) / 2)
  }

  private func grid(_ frame: Frame, on canvas: inout SVGCanvas) {
    for tick in frame.horizontal.ticks {
      let x = frame.x(tick)
      canvas.line(x, frame.top, x, frame.bottom)
      canvas.text(horizontal.text(tick), x: x, y: frame.bottom + 24, anchor: .middle)
    }
    for tick in frame.vertical.ticks {
      let y = frame.y(tick)
      canvas.line(frame.left, y, frame.right, y)
      canvas.text(vertical.text(tick), x: frame.left - 8, y: y + 6, anchor: .end)
    }
  }

  private func line(
    _ index: Int,
    _ series: Series,
    _ frame: Frame,
    on canvas: inout SVGCanvas
  ) {
    let color = canvas.theme.color(index)
    if series.style != .points {
      let places = series.points.map { frame.place($0) }
      canvas.polyline(places, color: color, dash: SVGCanvas.dash(index))
    }
    guard series.style != .curve else { return }
    for point in series.points {
      let (x, y) = frame.place(point)
      if let interval = point.interval, vertical.holds(interval.lowerBound) {
        let ends = [interval.lowerBound, interval.upperBound].map { frame.clampedY($0) }
        canvas.line(x, ends[0], x, ends[1], color: color, width: 1.5)
      }
      canvas.marker(index, x: x, y: y, tip: tip(of: point, in: series))
    }
  }

  private func tip(of point: Point, in series: Series) -> String {
    let numbers = "\(horizontal.text(point.x)), \(vertical.text(point.y))"
    return "\(point.label ?? series.name): \(numbers)"
  }

  private func labels(_ series: [Series], _ frame: Frame, on canvas: inout SVGCanvas) {
    let points = series.filter { $0.style != .curve }.flatMap(\.points)
    var placement = LabelPlacement(
      within: (frame.left...frame.right, frame.top...frame.bottom),
      points: points.map { frame.place($0) }
    )
    for point in points {
      guard let label = point.label, point.isNamed else { continue }
      let spot = placement.place(label, beside: frame.place(point))
      canvas.text(
        label,
        x: spot.x,
        y: spot.y,
        anchor: spot.anchor,
        size: SVGCanvas.smallFontSize
      )
    }
  }

  private static func sample(_ style: Series.Style, _ index: Int) -> SVGCanvas.Sample {
    switch style {
    case .line: .lineWithPoints(index)
    case .points: .points(index)
    case .curve: .line(index)
    }
  }
}

/// Where numbers lie in the picture.
private struct Frame {
  static let height = 460.0

  let left: Double
  let right = 600.0
  let top = 44.0
  let bottom = 390.0
  let horizontal: AxisRange
  let vertical: AxisRange

  init(
    points: [LineChart.Point],
    _ horizontalAxis: PlotAxis,
    _ verticalAxis: PlotAxis
  ) {
    horizontal = AxisRange(points.map(\.x), scale: horizontalAxis.scale, ticks: 6)
    vertical = AxisRange(points.map(\.y), scale: verticalAxis.scale, ticks: 8)
    let widths = vertical.ticks.map { SVGCanvas.width(of: verticalAxis.text($0)) }
    left = 44 + (widths.max() ?? 0)
  }

  func x(_ value: Double) -> Double { left + horizontal.share(value) * (right - left) }
  func y(_ value: Double) -> Double { bottom - vertical.share(value) * (bottom - top) }
  func clampedY(_ value: Double) -> Double { min(max(y(value), top), bottom) }
  func place(_ point: LineChart.Point) -> (x: Double, y: Double) { (x(point.x), y(point.y)) }
}
