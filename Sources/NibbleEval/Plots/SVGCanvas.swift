/// The elements of one picture, 640 units wide.
package struct SVGCanvas: Sendable {
  static let width = 640.0
  /// Room for a title.
  static let titleHeight = 28.0
  static let fontSize = 20.0
  /// Of labels inside a picture.
  static let smallFontSize = 17.0

  let theme: PlotTheme
  private var elements: [String] = []

  init(theme: PlotTheme) {
    self.theme = theme
  }

  /// Where a text stands beside its point.
  enum Anchor: String {
    case start, middle, end
  }

  /// The complete element.
  func document(
    top: Double,
    height: Double,
    attributes: [(name: String, value: String)],
    isFile: Bool
  ) -> String {
    let box = "0 \(short(top)) \(short(Self.width)) \(short(height))"
    var all = [("viewBox", box)]
    if isFile {
      all.insert(("xmlns", "http://www.w3.org/2000/svg"), at: 0)
      all += [("width", short(Self.width)), ("height", short(height))]
    }
    all += [
      ("font-family", "DejaVu Sans, Helvetica, Arial, sans-serif"),
      ("font-size", short(Self.fontSize)), ("fill", theme.text),
    ]
    all += attributes.map { ($0.name, $0.value) }
    let ground =
      isFile
      ? ["<rect width=\"640\" height=\"\(short(height))\" fill=\"\(theme.background)\"/>"] : []
    let parts = ["<svg\(written(all))>"] + ground + elements + ["</svg>\n"]
    return parts.joined(separator: "\n")
  }

  /// Units that a text is wide, nearly.
  static func width(of text: String, size: Double = fontSize) -> Double {
    Double(text.count) * size * 0.6
  }
}

// MARK: - Elements

extension SVGCanvas {
  mutating func text(
    _ words: String,
    x: Double,
    y: Double,
    anchor: Anchor,
    size: Double? = nil,
    weight: String? = nil,
    fill: String? = nil
  ) {
    var attributes = [("x", short(x)), ("y", short(y)), ("text-anchor", anchor.rawValue)]
    if let size { attributes.append(("font-size", short(size))) }
    if let weight { attributes.append(("font-weight", weight)) }
    if let fill { attributes.append(("fill", fill)) }
    add("text", attributes, content: words.escapedForMarkup)
  }

  /// A text that reads upwards, around its middle.
  mutating func verticalText(_ words: String, x: Double, y: Double) {
    let place = "translate(\(short(x)) \(short(y))) rotate(-90)"
    add(
      "text",
      [("text-anchor", "middle"), ("transform", place)],
      content: words.escapedForMarkup
    )
  }

  mutating func line(
    _ x1: Double,
    _ y1: Double,
    _ x2: Double,
    _ y2: Double,
    color: String? = nil,
    width: Double = 1,
    dash: String? = nil
  ) {
    var attributes = [
      ("x1", short(x1)), ("y1", short(y1)), ("x2", short(x2)), ("y2", short(y2)),
      ("stroke", color ?? theme.grid), ("stroke-width", short(width)),
    ]
    if let dash { attributes.append(("stroke-dasharray", dash)) }
    add("line", attributes)
  }

  mutating func polyline(_ places: [(x: Double, y: Double)], color: String, dash: String?) {
    let path = places.map { "\(short($0.x)),\(short($0.y))" }.joined(separator: " ")
    var attributes = [
      ("points", path), ("fill", "none"), ("stroke", color), ("stroke-width", "3"),
    ]
    if let dash { attributes.append(("stroke-dasharray", dash)) }
    add("polyline", attributes)
  }

  /// A rectangle.
  ///
  /// - Parameters:
  ///   - x: Its left edge.
  ///   - y: Its upper edge.
  ///   - width: Units.
  ///   - height: Units.
  ///   - fill: Its colour.
  ///   - tip: Words that a pointer brings up.
  mutating func rectangle(
    x: Double,
    y: Double,
    width: Double,
    height: Double,
    fill: String,
    tip: String? = nil
  ) {
    let attributes = [
      ("x", short(x)), ("y", short(y)), ("width", short(width)), ("height", short(height)),
      ("fill", fill),
    ]
    add("rect", attributes, content: tip.map(Self.title))
  }

  /// A point; its shape is a second cue beside its colour.
  mutating func marker(_ index: Int, x: Double, y: Double, tip: String? = nil) {
    let color = theme.color(index)
    let tip = tip.map(Self.title)
    if index % Self.outlines.count == 0 {
      add(
        "circle",
        [("cx", short(x)), ("cy", short(y)), ("r", "5"), ("fill", color)],
        content: tip
      )
      return
    }
    let corners = Self.outlines[index % Self.outlines.count]
      .map { "\(short(x + $0.0)),\(short(y + $0.1))" }
    add("polygon", [("points", corners.joined(separator: " ")), ("fill", color)], content: tip)
  }

  /// How a line of some number is broken.
  static func dash(_ index: Int) -> String? { dashes[index % dashes.count] }

  private static let dashes: [String?] = [nil, "10 5", "3 4", "12 4 3 4"]

  /// Corners around a point; the first shape is a circle.
  private static let outlines: [[(Double, Double)]] = [
    [],
    [(-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5)],
    [(0, -6), (5.5, 4.5), (-5.5, 4.5)],
    [(0, -6.5), (6.5, 0), (0, 6.5), (-6.5, 0)],
    [(0, 6), (5.5, -4.5), (-5.5, -4.5)],
    [
      (-2, -6), (2, -6), (2, -2), (6, -2), (6, 2), (2, 2), (2, 6), (-2, 6), (-2, 2), (-6, 2),
      (-6, -2), (-2, -2),
    ],
  ]

  private static func title(_ words: String) -> String {
    "<title>\(words.escapedForMarkup)</title>"
  }

  private mutating func add(
    _ name: String,
    _ attributes: [(String, String)],
    content: String? = nil
  ) {
    let opening = "<\(name)\(written(attributes))"
    elements.append(content.map { "\(opening)>\($0)</\(name)>" } ?? opening + "/>")
  }

  private func written(_ attributes: [(String, String)]) -> String {
    attributes.map { " \($0.0)=\"\($0.1.escapedForMarkup)\"" }.joined()
  }

  private func short(_ value: Double) -> String { NumberText.decimal(value, 1) }
}

// MARK: - Legend

extension SVGCanvas {
  /// What a legend shows before a name.
  enum Sample {
    case line(Int), points(Int), lineWithPoints(Int), surface(String)
  }

  static let legendRowHeight = 26.0

  /// Names with samples, side by side as far as they fit.
  ///
  /// - Returns: The height of the rows.
  mutating func legend(_ entries: [(sample: Sample, name: String)], top: Double) -> Double {
    let sampleWidth = 34.0
    let left = 24.0
    var x = left
    var y = top
    for entry in entries {
      let width = sampleWidth + Self.width(of: entry.name) + 20
      if x > left, x + width > Self.width { (x, y) = (left, y + Self.legendRowHeight) }
      draw(entry.sample, x: x, y: y + Self.legendRowHeight / 2)
      text(entry.name, x: x + sampleWidth, y: y + Self.legendRowHeight / 2 + 6, anchor: .start)
      x += width
    }
    return entries.isEmpty ? 0 : y + Self.legendRowHeight - top
  }

  private mutating func draw(_ sample: Sample, x: Double, y: Double) {
    switch sample {
    case .line(let index), .lineWithPoints(let index):
      let color = theme.color(index)
      line(x, y, x + 26, y, color: color, width: 3, dash: Self.dash(index))
      if case .lineWithPoints = sample { marker(index, x: x + 13, y: y) }
    case .points(let index):
      marker(index, x: x + 13, y: y)
    case .surface(let color):
      rectangle(x: x + 4, y: y - 8, width: 20, height: 16, fill: color)
    }
  }
}

extension String {
  /// The text as XML and HTML have it, in content and in quoted attributes; characters that XML forbids are replaced.
  package var escapedForMarkup: String {
    var result = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      case "'": result += "&#39;"
      case "\t", "\n", "\r": result.unicodeScalars.append(scalar)
      case "\u{0}"..<"\u{20}", "\u{7F}"..<"\u{A0}", "\u{FFFE}", "\u{FFFF}": result += "\u{FFFD}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
