import Foundation

/// Numbers in rows and columns, as colours of a logarithmic scale.
package struct HeatMap: Plot {
  /// Neighbouring columns with a common heading.
  package struct Group: Hashable, Sendable {
    package var name: String
    package var columns: [String]
  }

  /// One row: a number for each column of all groups; `nil` where nothing was measured.
  package struct Row: Hashable, Sendable {
    package var name: String
    package var values: [Double?]
  }

  package var title: String
  package var horizontalTitle: String
  package var verticalTitle: String
  /// What the colours stand for.
  package var scaleTitle: String
  package var groups: [Group]
  package var rows: [Row]
  /// Words of a number.
  package var text: @Sendable (Double) -> String

  package func draw(on canvas: inout SVGCanvas) -> Double {
    let frame = Frame(groups: groups.map(\.columns.count), rows: rows.count)
    let scale = ColorScale(rows.flatMap(\.values).compactMap(\.self))
    headings(frame, on: &canvas)
    for (index, row) in rows.enumerated() {
      let y = frame.y(index)
      if frame.isLabelled(row: index) {
        let middle = y + frame.rowHeight / 2 + 6
        canvas.text(row.name, x: frame.left - 8, y: middle, anchor: .end)
      }
      for (column, value) in row.values.enumerated() where column < frame.columns.count {
        cell(value, frame.columns[column], y: y, frame: frame, scale: scale, on: &canvas)
      }
    }
    return scaleBar(scale, below: frame.bottom + 66, on: &canvas)
  }

  private func headings(_ frame: Frame, on canvas: inout SVGCanvas) {
    canvas.verticalText(verticalTitle, x: 22, y: (frame.top + frame.bottom) / 2)
    canvas.text(
      horizontalTitle,
      x: (frame.left + frame.right) / 2,
      y: frame.bottom + 50,
      anchor: .middle
    )
    var column = 0
    for group in groups where !group.columns.isEmpty {
      let ends = (frame.columns[column], frame.columns[column + group.columns.count - 1])
      let middle = (ends.0 + ends.1 + frame.columnWidth) / 2
      canvas.text(group.name, x: middle, y: frame.top - 10, anchor: .middle)
      for name in group.columns {
        if frame.isLabelled(column: column) {
          let x = frame.columns[column] + frame.columnWidth / 2
          canvas.text(name, x: x, y: frame.bottom + 22, anchor: .middle)
        }
        column += 1
      }
    }
  }

  private func cell(
    _ value: Double?,
    _ x: Double,
    y: Double,
    frame: Frame,
    scale: ColorScale,
    on canvas: inout SVGCanvas
  ) {
    let (width, height) = (frame.columnWidth, frame.rowHeight)
    guard let value else {
      // A struck-out cell can't be taken for a small number.
      canvas.line(x + 2, y + height - 2, x + width - 2, y + 2)
      return
    }
    let color = scale.color(value)
    let words = text(value)
    canvas.rectangle(
      x: x + 1,
      y: y + 1,
      width: width - 2,
      height: height - 2,
      fill: color.fill,
      tip: words
    )
    let fits = SVGCanvas.width(of: words, size: SVGCanvas.smallFontSize) <= width - 4
    guard fits, height >= 20 else { return }
    canvas.text(
      words,
      x: x + width / 2,
      y: y + height / 2 + 5,
      anchor: .middle,
      size: SVGCanvas.smallFontSize,
      fill: color.ink
    )
  }

  /// The colours from the smallest to the largest number.
  private func scaleBar(
    _ scale: ColorScale,
    below top: Double,
    on canvas: inout SVGCanvas
  ) -> Double {
    let (left, width, steps) = (220.0, 240.0, 48)
    for step in 0..<steps {
      canvas.rectangle(
        x: left + width * Double(step) / Double(steps),
        y: top,
        width: width / Double(steps) + 0.2,
        height: 16,
        fill: ColorScale.color(share: Double(step) / Double(steps - 1)).fill
      )
    }
    let least = (scale.isCut ? "≤ " : "") + text(scale.least)
    canvas.text(least, x: left - 8, y: top + 14, anchor: .end)
    canvas.text(text(scale.most), x: left + width + 8, y: top + 14, anchor: .start)
    canvas.text(scaleTitle, x: left + width / 2, y: top + 38, anchor: .middle)
    return top + 50
  }
}

extension HeatMap {
  private struct Frame {
    let left = 104.0
    let right = 600.0
    let top = 68.0
    let rowHeight: Double
    let bottom: Double
    let columnWidth: Double
    /// Left edges.
    let columns: [Double]

    init(groups: [Int], rows: Int) {
      let count = max(1, groups.reduce(0, +))
      let gap = 14.0
      let gaps = gap * Double(max(0, groups.count - 1))
      columnWidth = (right - left - gaps) / Double(count)
      rowHeight = rows <= 8 ? 44 : rows <= 16 ? 28 : rows <= 32 ? 20 : 12
      bottom = top + rowHeight * Double(rows)
      var columns: [Double] = []
      for (group, count) in groups.enumerated() {
        let before = left + gap * Double(group)
        for _ in 0..<count { columns.append(before + columnWidth * Double(columns.count)) }
      }
      self.columns = columns
    }

    func y(_ row: Int) -> Double { top + rowHeight * Double(row) }
    func isLabelled(row: Int) -> Bool { row % Self.stride(rowHeight, needed: 20) == 0 }
    func isLabelled(column: Int) -> Bool { column % Self.stride(columnWidth, needed: 26) == 0 }

    private static func stride(_ size: Double, needed: Double) -> Int {
      max(1, Int((needed / size).rounded(.up)))
    }
  }
}

/// Colours of numbers: from dark blue to yellow, after cividis, which colour-blind readers see as others do.
private struct ColorScale {
  let least: Double
  let most: Double
  /// Whether there are smaller numbers than the least that has a colour of its own.
  let isCut: Bool

  /// Over four powers of ten at most: below them, differences do not matter beside the largest number.
  init(_ values: [Double]) {
    let positive = values.filter { $0 > 0 && $0.isFinite }
    most = positive.max() ?? 1
    least = max(positive.min() ?? 1, most * 1e-4)
    isCut = values.contains { [least] in $0 < least }
  }

  /// Smaller numbers than the least have the first colour.
  func color(_ value: Double) -> (fill: String, ink: String) {
    guard value > least, most > least else { return Self.color(share: 0) }
    return Self.color(share: log(value / least) / log(most / least))
  }

  static func color(share: Double) -> (fill: String, ink: String) {
    let position = min(max(share, 0), 1) * Double(stops.count - 1)
    let lower = min(Int(position), stops.count - 2)
    let part = position - Double(lower)
    let channels = zip(stops[lower], stops[lower + 1]).map { $0 + ($1 - $0) * part }
    let words = channels.map { String(format: "%02x", Int($0.rounded())) }
    return ("#" + words.joined(), share < 0.55 ? "#ffffff" : "#000000")
  }

  private static let stops: [[Double]] = [
    [0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120],
    [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56],
  ]
}
