import Foundation
import NibbleKV

extension TuningReport {
  /// The page of all figures.
  package var page: ReportPage {
    ReportPage(
      title: "A policy for \(model)",
      lead: (
        "Which codec each part of the cache was given, and why. Every number can be made again with ",
        "nibble tune", "; the data of each figure stand below it."
      ),
      facts: [
        ("model", model), ("budget", budget), ("bytes", "\(tuned.totalBytes) of \(limitBytes)"),
        ("context", "\(context) tokens"),
        ("bits per value", NumberText.decimal(tuned.bitsPerValue, 3)),
        ("chosen by", "\(tuningTokens) tokens"), ("checked on", "\(checkTokens) other tokens"),
        ("library", version),
      ],
      findings: findings,
      overview: overview,
      figures: [qualityFigure, bitsFigure, lossFigure, hullFigure]
    )
  }

  private var overview: TextTable {
    var table = TextTable([
      ("policy", .left), ("bits per value", .right), (lossName, .right), ("predicted", .right),
      ("same most likely token", .right),
    ])
    for (row, predicted) in [(tuned, lossPredicted), (bestUniform, nil)] as [(TuningRow?, Double?)]
    {
      guard let row else { continue }
      table.append([
        row.policy,
        NumberText.decimal(row.bitsPerValue, 3),
        NumberText.significant(row.loss),
        predicted.map(NumberText.significant) ?? "",
        NumberText.percent(row.sameTop1),
      ])
    }
    return table
  }

  private var lossAxis: PlotAxis {
    PlotAxis(title: lossName, scale: .logarithmic(base: 10), text: NumberText.short)
  }
}

// MARK: - Whole policies

extension TuningReport {
  private var qualityFigure: Figure {
    let presets = Set(Policy.presetNames)
    // Exact rows lie far away from everything else.
    let shown = rows.filter { $0.bitsPerValue < Self.mostBits }
    func points(where belongs: (TuningRow) -> Bool) -> [LineChart.Point] {
      shown.filter(belongs).sorted { $0.totalBytes < $1.totalBytes }.map(point)
    }
    let isTuned = { (row: TuningRow) in row.policy.hasPrefix(TuningReport.tunedName) }
    let series = [
      LineChart.Series(name: "tuned", points: points(where: isTuned)),
      LineChart.Series(
        name: "presets",
        points: points { presets.contains($0.policy) },
        style: .points
      ),
      LineChart.Series(
        name: "one codec for all keys, one for all values",
        points: points { !presets.contains($0.policy) && !isTuned($0) },
        style: .points
      ),
    ]
    var table = TextTable([
      ("policy", .left), ("total bytes", .right), ("bits per value", .right), ("loss", .right),
      ("low", .right), ("high", .right), ("same top 1", .right),
    ])
    for row in rows {
      table.append([
        row.policy, "\(row.totalBytes)", NumberText.decimal(row.bitsPerValue, 3),
        NumberText.significant(row.loss), NumberText.significant(row.lossLow),
        NumberText.significant(row.lossHigh), NumberText.percent(row.sameTop1),
      ])
    }
    return Figure(
      name: "quality",
      summary: """
        \(lossName) with its 95 % interval on \(checkTokens) tokens that nothing was chosen by, against the bytes of \(context) tokens. \
        Lower and further left is better. Exact rows are in the table only.
        """,
      plot: LineChart(
        title: "What bytes buy",
        horizontal: PlotAxis(
          title: "total bytes",
          scale: .logarithmic(base: 2),
          text: NumberText.roundBytes
        ),
        vertical: lossAxis,
        series: series.filter { !$0.points.isEmpty }
      ),
      table: table
    )
  }

  /// What the names of tuned policies begin with.
  static let tunedName = "tuned"

  private static let mostBits = 12.0

  private func point(_ row: TuningRow) -> LineChart.Point {
    var interval: ClosedRange<Double>?
    if let low = row.lossLow, let high = row.lossHigh, low <= high { interval = low...high }
    return LineChart.Point(
      x: Double(row.totalBytes),
      y: row.loss,
      label: row.policy,
      // Where points crowd, only those that are compared are named in the picture.
      isNamed: row.policy == tuned.policy || row.policy == bestUniform?.policy,
      interval: interval
    )
  }
}

// MARK: - Units

extension TuningReport {
  private var bitsFigure: Figure {
    unitFigure(
      name: "bits",
      title: "Where the bits went",
      summary:
        "Bits per value that each part of the cache was given, with everything that is stored.",
      scaleTitle: "bits per value (logarithmic)",
      value: { $0.bitsPerValue },
      text: { NumberText.decimal($0, 1) }
    )
  }

  private var lossFigure: Figure {
    unitFigure(
      name: "loss",
      title: "What is left to lose",
      summary:
        "\(lossName), when the chosen codec encodes one part and everything else stays exact.",
      scaleTitle: "\(lossName) (logarithmic)",
      value: { unit in unit.rungs.first { $0.codec == unit.codec }?.loss },
      text: { $0 == 0 ? "0" : String(format: "%.1e", $0).replacing("e-0", with: "e-") }
    )
  }

  private func unitFigure(
    name: String,
    title: String,
    summary: String,
    scaleTitle: String,
    value: (UnitRow) -> Double?,
    text: @escaping @Sendable (Double) -> String
  ) -> Figure {
    let layers = distinct(units.map(\.layer))
    func columns(_ side: String) -> [String] {
      distinct(units.filter { $0.side == side }.map(\.kvHeads))
    }
    var table = TextTable([
      ("layer", .right), ("KV heads", .left), ("side", .left), ("codec", .left), (title, .right),
    ])
    for unit in units {
      table.append([
        "\(unit.layer)", unit.kvHeads, unit.side, unit.codec, value(unit).map(text) ?? "",
      ])
    }
    return Figure(
      name: name,
      summary: summary,
      plot: HeatMap(
        title: title,
        horizontalTitle: "KV head",
        verticalTitle: "layer",
        scaleTitle: scaleTitle,
        groups: ["keys", "values"].map { HeatMap.Group(name: $0, columns: columns($0)) },
        rows: layers.map { layer in
          HeatMap.Row(name: "\(layer)", values: units.filter { $0.layer == layer }.map(value))
        },
        text: text
      ),
      table: table
    )
  }

  private var hullFigure: Figure {
    var table = TextTable([
      ("layer", .right), ("KV heads", .left), ("side", .left), ("codec", .left),
      ("bits per value", .right), ("loss", .right), ("chosen", .left),
    ])
    for unit in units {
      for rung in unit.rungs {
        table.append([
          "\(unit.layer)", unit.kvHeads, unit.side, rung.codec,
          NumberText.decimal(rung.bitsPerValue, 3), NumberText.significant(rung.loss),
          rung.codec == unit.codec ? "yes" : "",
        ])
      }
    }
    let series = ["keys", "values"].map { side in
      LineChart.Series(
        name: side,
        points: units.filter { $0.side == side }.flatMap { unit in
          unit.rungs.map { rung in
            LineChart.Point(
              x: rung.bitsPerValue,
              y: rung.loss,
              label: "layer \(unit.layer), KV head \(unit.kvHeads): \(rung.codec)",
              isNamed: false
            )
          }
        },
        style: .points
      )
    }
    return Figure(
      name: "rungs",
      summary: """
        Every codec that was tried on every part by itself: \(lossName) against bits per value. The search takes the steps that buy \
        most for a bit first.
        """,
      plot: LineChart(
        title: "What each part loses alone",
        horizontal: PlotAxis(title: "bits per value", scale: .linear, text: NumberText.short),
        vertical: lossAxis,
        series: series
      ),
      table: table
    )
  }
}
