import Foundation

/// Lines over two logarithmic axes, drawn as SVG.
///
/// Text is large enough to be read where the picture is 400 pixels wide.
package struct LineChart: Sendable {
  /// One line.
  package struct Series: Sendable {
    /// Its name in the legend.
    package var name: String
    /// Its points from left to right; both numbers are positive.
    package var points: [Point]
  }

  /// A point in the units of the axes.
  package struct Point: Hashable, Sendable {
    package var x: Double
    package var y: Double
  }

  package var title: String
  package var horizontalTitle: String
  package var verticalTitle: String
  package var series: [Series]
  /// Words of a number of the horizontal axis.
  package var horizontalText: @Sendable (Double) -> String
  /// Words of a number of the vertical axis.
  package var verticalText: @Sendable (Double) -> String
  package var theme = Theme.light

  /// Draws the chart; one without points has axes only.
  package func svg() -> String {
    let frame = Frame(points: series.flatMap(\.points))
    let parts = [
      background, captions(frame), gridlines(frame), lines(frame), legend(frame), "</svg>\n",
    ]
    return parts.joined(separator: "\n")
  }
}

extension LineChart {
  /// Colours.
  package struct Theme: Hashable, Sendable {
    package var background: String
    package var text: String
    package var grid: String
    /// Colours of the lines, in turn.
    package var lines: [String]

    /// Dark on white; the lines' colours, after Okabe and Ito, also differ for eyes that tell fewer apart.
    package static let light = Theme(
      background: "#ffffff",
      text: "#222222",
      grid: "#d8d8d8",
      lines: ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
    )
  }

  private static let width = 640.0
  private static let height = 460.0
  private static let fontSize = 18.0

  private var background: String {
    """
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 460" width="640" height="460" \
    font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="18" fill="\(theme.text)">
    <rect width="640" height="460" fill="\(theme.background)"/>
    """
  }

  private func captions(_ frame: Frame) -> String {
    let middle = (frame.left + frame.right) / 2
    let center = (frame.top + frame.bottom) / 2
    return """
      \(text(title, x: middle, y: 26, anchor: "middle", more: " font-weight=\"bold\""))
      \(text(horizontalTitle, x: middle, y: Self.height - 12, anchor: "middle"))
      \(text(
        verticalTitle,
        x: 0,
        y: 0,
        anchor: "middle",
        more: " transform=\"translate(22 \(short(center))) rotate(-90)\""
      ))
      """
  }

  private func gridlines(_ frame: Frame) -> String {
    var parts: [String] = []
    for tick in frame.horizontal.powers(of: 2, atMost: 6) {
      let x = frame.x(tick)
      parts.append(line(x, frame.top, x, frame.bottom))
      parts.append(text(horizontalText(tick), x: x, y: frame.bottom + 24, anchor: "middle"))
    }
    for tick in frame.vertical.powers(of: 10, atMost: 8) {
      let y = frame.y(tick)
      parts.append(line(frame.left, y, frame.right, y))
      parts.append(text(verticalText(tick), x: frame.left - 8, y: y + 6, anchor: "end"))
    }
    return parts.joined(separator: "\n")
  }

  private func lines(_ frame: Frame) -> String {
    var parts: [String] = []
    for (index, series) in series.enumerated() {
      let places = series.points.map { (short(frame.x($0.x)), short(frame.y($0.y))) }
      let path = places.map { "\($0.0),\($0.1)" }.joined(separator: " ")
      parts.append(
        "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(color(index))\" stroke-width=\"3\"/>"
      )
      for (x, y) in places {
        parts.append("<circle cx=\"\(x)\" cy=\"\(y)\" r=\"4\" fill=\"\(color(index))\"/>")
      }
    }
    return parts.joined(separator: "\n")
  }

  /// In the upper left corner, which rising lines leave free.
  private func legend(_ frame: Frame) -> String {
    let rowHeight = Self.fontSize + 5
    let left = frame.left + 10
    var parts: [String] = []
    for (index, series) in series.enumerated() {
      let y = frame.top + 20 + Double(index) * rowHeight
      parts.append(line(left, y - 6, left + 26, y - 6, color: color(index), width: 3))
      parts.append(text(series.name, x: left + 34, y: y, anchor: "start"))
    }
    return parts.joined(separator: "\n")
  }
}

// MARK: - Elements

extension LineChart {
  private func color(_ index: Int) -> String { theme.lines[index % theme.lines.count] }

  private func line(
    _ x1: Double,
    _ y1: Double,
    _ x2: Double,
    _ y2: Double,
    color: String? = nil,
    width: Int = 1
  ) -> String {
    "<line x1=\"\(short(x1))\" y1=\"\(short(y1))\" x2=\"\(short(x2))\" y2=\"\(short(y2))\" "
      + "stroke=\"\(color ?? theme.grid)\" stroke-width=\"\(width)\"/>"
  }

  private func text(
    _ words: String,
    x: Double,
    y: Double,
    anchor: String,
    more: String = ""
  ) -> String {
    "<text x=\"\(short(x))\" y=\"\(short(y))\" text-anchor=\"\(anchor)\"\(more)>"
      + "\(Self.escaped(words))</text>"
  }

  private func short(_ value: Double) -> String { NumberText.decimal(value, 1) }

  /// Text as XML has it.
  static func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
      .replacing("\"", with: "&quot;")
  }
}

/// Where numbers lie in the picture.
private struct Frame {
  let left = 104.0
  let right = 612.0
  let top = 44.0
  let bottom = 390.0
  let horizontal: LogarithmicAxis
  let vertical: LogarithmicAxis

  init(points: [LineChart.Point]) {
    horizontal = LogarithmicAxis(points.map(\.x), base: 2)
    vertical = LogarithmicAxis(points.map(\.y), base: 10)
  }

  func x(_ value: Double) -> Double { left + horizontal.share(value) * (right - left) }
  func y(_ value: Double) -> Double { bottom - vertical.share(value) * (bottom - top) }
}

/// An axis from one power of a base to another.
private struct LogarithmicAxis {
  let lower: Double
  let upper: Double

  init(_ values: [Double], base: Double) {
    let exponents = values.map { log($0) / log(base) }
    // A little is cut off, so that rounding does not add a power.
    let first = floor((exponents.min() ?? 0) + 1e-9)
    let last = ceil((exponents.max() ?? 1) - 1e-9)
    lower = pow(base, first)
    upper = pow(base, max(last, first + 1))
  }

  /// 0 at the lower end, 1 at the upper one.
  func share(_ value: Double) -> Double { log(value / lower) / log(upper / lower) }

  /// Every power of the base on the axis, or every second, third … if these are too many.
  func powers(of base: Double, atMost count: Int) -> [Double] {
    let steps = Int((log(upper / lower) / log(base)).rounded())
    let stride = (steps + count) / count
    return Swift.stride(from: 0, through: steps, by: stride).map { lower * pow(base, Double($0)) }
  }
}
