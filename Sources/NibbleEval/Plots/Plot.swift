/// A picture of numbers, drawn as SVG.
///
/// Text is large enough to be read where the picture is 400 pixels wide.
package protocol Plot: Sendable {
  /// Stands above the picture in a file of its own; a page has a heading instead.
  var title: String { get }

  /// Draws everything but the title, below ``SVGCanvas/titleHeight``.
  ///
  /// - Returns: The height that the picture needs, the title's included.
  func draw(on canvas: inout SVGCanvas) -> Double
}

extension Plot {
  /// The picture as a file of its own.
  package func svg(theme: PlotTheme = .light) -> String {
    var canvas = SVGCanvas(theme: theme)
    let height = draw(on: &canvas)
    canvas.text(title, x: SVGCanvas.width / 2, y: 22, anchor: .middle, size: 18, weight: "bold")
    return canvas.document(
      top: 0,
      height: height,
      attributes: [("role", "img"), ("aria-label", title)],
      isFile: true
    )
  }

  /// The picture as an element of a page, which gives its colours, its heading and its words for those who do not see it.
  ///
  /// - Parameter attributes: Of the element.
  /// - Returns: The element.
  package func element(attributes: [(name: String, value: String)]) -> String {
    var canvas = SVGCanvas(theme: .page)
    let height = draw(on: &canvas)
    return canvas.document(
      top: SVGCanvas.titleHeight,
      height: height - SVGCanvas.titleHeight,
      attributes: attributes,
      isFile: false
    )
  }
}

/// Colours of a plot.
package struct PlotTheme: Hashable, Sendable {
  package var background: String
  package var text: String
  package var grid: String
  /// Colours of lines and surfaces, in turn.
  package var series: [String]

  /// The colour of a line or a surface by its number.
  package func color(_ index: Int) -> String { series[index % series.count] }

  /// Dark on white; the colours, after Okabe and Ito, also differ for eyes that tell fewer apart.
  package static let light = PlotTheme(
    background: "#ffffff",
    text: "#222222",
    grid: "#d8d8d8",
    series: ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
  )

  /// The same hues, light enough for a dark ground.
  package static let dark = PlotTheme(
    background: "#16181d",
    text: "#e6e6e6",
    grid: "#3a3f4a",
    series: ["#f2f2f2", "#4da3e0", "#ff8a4c", "#2fc79a", "#e39cc4", "#f2bd3d", "#9ad4f5"]
  )

  /// The custom properties of a page's style sheet.
  package static let page = PlotTheme(
    background: "var(--background)",
    text: "var(--text)",
    grid: "var(--grid)",
    series: light.series.indices.map { "var(--series-\($0))" }
  )

  /// Declarations of the properties that ``page`` refers to, with this theme's colours.
  package var declarations: String {
    let colors = [("background", background), ("text", text), ("grid", grid)]
    let named = colors + series.enumerated().map { ("series-\($0.offset)", $0.element) }
    return named.map { "--\($0.0): \($0.1);" }.joined(separator: " ")
  }
}
