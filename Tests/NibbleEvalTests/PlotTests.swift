import Foundation
import Testing

@testable import NibbleEval

@Suite struct LineChartTests {
  private func chart(_ series: [LineChart.Series]) -> LineChart {
    LineChart(
      title: "a < b & c",
      horizontal: PlotAxis(title: "tokens", scale: .logarithmic(base: 2), text: Self.number),
      vertical: PlotAxis(title: "time", scale: .logarithmic(base: 10)) { Self.number($0) + " µs" },
      series: series
    )
  }

  private static func number(_ value: Double) -> String { NumberText.decimal(value, 0) }

  private func points(_ numbers: [(Double, Double)]) -> [LineChart.Point] {
    numbers.map { LineChart.Point(x: $0.0, y: $0.1) }
  }

  @Test func powersLieOnTheFrame() throws {
    let line = LineChart.Series(name: "\"x\"", points: points([(1024, 10), (4096, 1000)]))
    let svg = chart([line]).svg()
    // From the lower left to the upper right corner, so both axes are logarithmic and just as long as needed.
    #expect(svg.contains("<polyline points=\"128.0,390.0 600.0,44.0\""))
    #expect(svg.contains(">1024</text>") && svg.contains(">2048</text>"))
    #expect(svg.contains(">10 µs</text>") && svg.contains(">1000 µs</text>"))
    #expect(svg.contains(">a &lt; b &amp; c</text>") && svg.contains(">&quot;x&quot;</text>"))
  }

  @Test func middlesAreGeometric() {
    let line = LineChart.Series(name: "x", points: points([(1, 1), (2, 10), (4, 100)]))
    #expect(chart([line]).svg().contains("116.0,390.0 358.0,217.0 600.0,44.0"))
  }

  @Test func manyPowersAreThinnedOut() {
    let line = LineChart.Series(name: "x", points: points([(1024, 10), (1_048_576, 100)]))
    let svg = chart([line]).svg()
    #expect(svg.contains(">1024</text>") && svg.contains(">4096</text>"))
    #expect(!svg.contains(">2048</text>") && svg.contains(">1048576</text>"))
  }

  @Test(arguments: [[], [LineChart.Point(x: 5, y: 7)]])
  func fewPointsAreDrawn(points: [LineChart.Point]) {
    let svg = chart([LineChart.Series(name: "x", points: points)]).svg()
    #expect(svg.hasSuffix("</svg>\n"))
    #expect(!svg.contains("nan") && !svg.contains("inf") && !svg.contains("\"-\""))
  }

  @Test func whatAnAxisHasNoPlaceForIsLeftOut() {
    let line = LineChart.Series(
      name: "x",
      points: points([(1, 0), (1, 10), (2, 100), (0, 10), (4, .infinity)])
    )
    let svg = chart([line]).svg()
    #expect(svg.contains("<polyline points=\"116.0,390.0 600.0,44.0\""))
    #expect(!svg.contains("nan") && !svg.contains("inf"))
  }

  @Test func everySeriesHasItsShapeAndDash() {
    let series = (0..<6).map {
      LineChart.Series(name: "series \($0)", points: points([(1, 1), (2, Double($0 + 2))]))
    }
    let svg = chart(series).svg()
    let shapes = svg.split(separator: "\n").filter { $0.hasPrefix("<polygon") }
    // Five shapes beside the circle, each twice in the picture and once in the legend.
    #expect(shapes.count == 15)
    #expect(svg.split(separator: "\n").count { $0.hasPrefix("<circle") } == 3)
    for dash in ["10 5", "3 4", "12 4 3 4"] {
      #expect(svg.contains("stroke-dasharray=\"\(dash)\""))
    }
    // The legend stands below the axes and wraps.
    #expect(svg.contains("viewBox=\"0 0.0 640.0 512.0\""))
  }

  @Test func linearAxesEndAtRoundNumbers() {
    let range = AxisRange([1.125, 8.56], scale: .linear, ticks: 6)
    #expect(range.lower == 0 && range.upper == 10 && range.ticks == [0, 2, 4, 6, 8, 10])
    #expect(range.share(5) == 0.5)
    let same = AxisRange([3, 3], scale: .linear, ticks: 6)
    #expect(same.lower <= 3 && same.upper > 3 && same.share(3).isFinite)
  }

  @Test func logarithmicAxesEndNearTheNumbers() {
    let time = AxisRange([150, 800], scale: .logarithmic(base: 10), ticks: 8)
    // Less than a power apart: the whole power is shown, with what lies between.
    #expect(time.ticks.map { $0.rounded() } == [100, 200, 500, 1_000])
    let wide = AxisRange([150, 8_000], scale: .logarithmic(base: 10), ticks: 8)
    #expect(wide.ticks.map { $0.rounded() } == [100, 200, 500, 1_000, 2_000, 5_000, 10_000])
    let bytes = AxisRange([700, 2_100], scale: .logarithmic(base: 2), ticks: 6)
    #expect(bytes.lower > 600 && bytes.upper < 2_500 && bytes.ticks == [1_024, 2_048])
    let long = AxisRange([1e-7, 0.9], scale: .logarithmic(base: 10), ticks: 4)
    #expect(long.ticks.map { log10($0).rounded() } == [-7, -5, -3, -1])
  }

  @Test func numbersAtAxesAreShort() {
    #expect([0.001, 1e-5, 1, 20_000].map(NumberText.short) == ["0.001", "1e-5", "1", "2e4"])
  }

  @Test func labelsAvoidEachOther() {
    var placement = LabelPlacement(within: (0...600, 0...400), points: [(200, 100), (220, 100)])
    let first = placement.place("one label", beside: (200, 100))
    let second = placement.place("two label", beside: (220, 100))
    // The first goes left, since the other point is on its right.
    #expect(first.anchor == .end && second.anchor == .start)
    // At the right edge there is no room on the right.
    var edge = LabelPlacement(within: (0...600, 0...400), points: [(595, 100)])
    #expect(edge.place("label", beside: (595, 100)).anchor == .end)
  }

  @Test func inAPageTheColoursAreThePages() {
    let line = LineChart.Series(name: "x", points: points([(1, 1), (2, 2)]))
    let element = chart([line]).element(attributes: [("role", "img"), ("id", "a\"b")])
    #expect(element.contains("stroke=\"var(--series-0)\"") && element.contains("id=\"a&quot;b\""))
    // Neither colours of its own nor the title.
    #expect(!element.contains("#") && !element.contains("a &lt; b"))
    for theme in [PlotTheme.light, .dark] {
      #expect(theme.series.count == PlotTheme.page.series.count)
      #expect(theme.declarations.contains("--series-\(theme.series.count - 1): "))
    }
  }
}

@Suite struct HeatMapTests {
  private func map(_ values: [[Double?]]) -> String {
    HeatMap(
      title: "t",
      horizontalTitle: "head",
      verticalTitle: "layer",
      scaleTitle: "nats",
      groups: [
        HeatMap.Group(name: "keys", columns: ["0", "1"]),
        HeatMap.Group(name: "values", columns: ["0"]),
      ],
      rows: values.enumerated().map { HeatMap.Row(name: "layer \($0)", values: $1) },
      text: { NumberText.significant($0) }
    ).svg()
  }

  @Test func coloursAreThoseOfALogarithm() {
    let svg = map([[1, 100, 10], [nil, 0, 1]])
    let fills = svg.split(separator: "\n").filter { $0.contains("<title>") }
      .compactMap { $0.split(separator: "fill=\"").last?.prefix(7) }
    // The middle of the decades is the middle of the scale; nothing is drawn where nothing was measured.
    #expect(fills == ["#00224e", "#fee838", "#7d7c76", "#00224e", "#00224e"])
    for words in ["keys", "values", "layer 1", "nats", "head"] {
      #expect(svg.contains(">\(words)</text>"))
    }
  }

  @Test func largeModelsHaveThinnedLabels() {
    let columns = (0..<32).map { "c\($0)" }
    let svg = HeatMap(
      title: "t",
      horizontalTitle: "head",
      verticalTitle: "layer",
      scaleTitle: "nats",
      groups: [HeatMap.Group(name: "keys", columns: columns)],
      rows: (0..<64).map { row in
        HeatMap.Row(name: "r\(row)", values: columns.indices.map { Double(row * 32 + $0 + 1) })
      },
      text: { NumberText.significant($0) }
    ).svg()
    let words = svg.split(separator: "\n").filter { $0.hasPrefix("<text") }
    #expect(words.count { $0.contains(">r") } == 32 && words.count { $0.contains(">c") } == 16)
    // No number fits its cell; a pointer still brings it up.
    #expect(!words.contains { $0.contains(">33<") } && svg.contains("<title>33</title>"))
  }

  @Test func muchSmallerNumbersShareAColour() {
    let svg = map([[1, 1e-4, 1e-9]])
    #expect(svg.contains(">≤ 1e-04</text>") || svg.contains(">≤ 0.0001</text>"))
    #expect(svg.split(separator: "#00224e\"><title>").count == 3)
  }

  @Test(arguments: [[], [[nil, nil, nil]], [[5, 5, 5]]] as [[[Double?]]])
  func littleIsDrawn(values: [[Double?]]) {
    let svg = map(values)
    #expect(svg.hasSuffix("</svg>\n"))
    #expect(!svg.contains("nan") && !svg.contains("inf"))
  }
}

@Suite struct PageMapTests {
  private func map(tokens: Int, starts: [Int]) -> PageMap {
    PageMap(
      title: "t",
      verticalTitle: "layer",
      tokens: tokens,
      pageStarts: starts,
      rows: [
        PageMap.Row(
          name: "0 keys",
          stretches: [
            PageMap.Stretch(tokens: 0..<2, kind: "sinks", bitsPerValue: 16),
            PageMap.Stretch(tokens: 2..<tokens, kind: "a < b", bitsPerValue: 2),
          ]
        )
      ]
    )
  }

  @Test func moreBitsAreHigherBars() throws {
    let bars = map(tokens: 508, starts: [2, 66]).svg().split(separator: "\n")
      .filter { $0.contains("<title>") }
    let heights = bars.compactMap { bar in
      bar.split(separator: " height=\"").last?.split(separator: "\"").first.flatMap { Double($0) }
    }
    #expect(heights.count == 2 && heights[0] > 2 * heights[1])
    // Two sinks among 508 tokens are still three units wide.
    #expect(bars[0].contains("width=\"3.0\""))
    #expect(bars[1].contains("a &lt; b, 2.00 bits per value, tokens 2 to 507"))
  }

  @Test func pagesAreCutWhereThereIsRoom() {
    func cuts(_ map: PageMap) -> Int {
      map.svg().split(separator: "\n").count { $0.contains("stroke=\"#ffffff\"") }
    }
    #expect(cuts(map(tokens: 600, starts: Array(stride(from: 2, to: 600, by: 64)))) == 9)
    #expect(cuts(map(tokens: 60_000, starts: Array(stride(from: 2, to: 60_000, by: 64)))) == 0)
    let nothing = PageMap(title: "t", verticalTitle: "layer", tokens: 0, pageStarts: [], rows: [])
    #expect(!nothing.svg().contains("nan"))
  }
}

#if os(Linux) || os(macOS)
@Suite struct PlotFilesTests {
  private let chart = LineChart(
    title: "t",
    horizontal: PlotAxis(title: "x", scale: .linear) { "\($0)" },
    vertical: PlotAxis(title: "y", scale: .linear) { "\($0)" },
    series: []
  )

  private func withFolder(_ work: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try work(folder.path)
  }

  @Test func aMissingConverterIsNamedWithItsPackage() throws {
    let missing = EvaluationError.programNotFound(name: "rsvg-convert", package: "librsvg2-bin")
    #expect(throws: missing) { try PlotFiles(name: "plot", searchPath: "/no/such:/nor/such") }
    #expect(missing.description.contains("apt-get install librsvg2-bin"))
  }

  @Test func vectorsNeedNoConverter() throws {
    try withFolder { folder in
      let path = folder + "/a.svg"
      let written = try PlotFiles(name: path, searchPath: "").write(chart)
      #expect(written == [path])
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text == chart.svg())
    }
  }

  @Test func theConverterIsCalled() throws {
    try withFolder { folder in
      // Copies, as `--width 1280 --output PNG SVG` would have it.
      let program = folder + "/rsvg-convert"
      try "#!/bin/sh\ncp \"$5\" \"$4\"\n".write(toFile: program, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
      let paths = try PlotFiles(name: folder + "/a", searchPath: "/no/such:" + folder).write(chart)
      #expect(paths == [folder + "/a.svg", folder + "/a.png"])
      #expect(FileManager.default.contentsEqual(atPath: paths[0], andPath: paths[1]))
      try "#!/bin/sh\nexit 3\n".write(toFile: program, atomically: true, encoding: .utf8)
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
      #expect(throws: EvaluationError.self) {
        try PlotFiles(name: folder + "/b", searchPath: folder).write(chart)
      }
    }
  }

  @Test func unwritablePathsAreNamed() throws {
    let files = try PlotFiles(name: "/no/such/folder/a.svg", searchPath: "")
    #expect(throws: EvaluationError.self) { try files.write(chart) }
  }
}
#endif
