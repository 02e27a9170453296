import Foundation

extension MeasurementReport {
  /// The page of all figures.
  package var page: ReportPage {
    let shape = "\(layers) layers, \(queryHeads):\(kvHeads) heads of \(headDim)"
    return ReportPage(
      title: "NibbleKV on \(model)",
      lead: (
        "What a compressed KV cache costs and what it leaves, measured on one machine in one run. Every number can be made again with ",
        "nibble report", "; the data of each figure stand below it."
      ),
      facts: [
        ("model", model), ("shape", shape), ("instruction set", isa),
        ("threads", scaling.rows.first.map { "\($0.threads)" } ?? "-"),
        ("text", "\(textTokens) tokens"), ("library", version), ("measured", date),
      ],
      overview: overview,
      figures: figures
    )
  }

  /// Every plot, in the order of the page.
  package var figures: [Figure] {
    [
      distortionFigure, sensitivityFigure, qualityFigure, memoryFigure, timeFigure,
      attentionFigure,
    ] + pages.enumerated().map { pageFigure($1, number: $0 + 1) }
  }

  /// What each policy with a line of its own costs, in a few numbers.
  var overview: TextTable {
    var table = TextTable([
      ("policy", .left), ("of float16 bytes", .right), ("bits per value", .right),
      ("KL mean, nats", .right), ("same most likely token", .right),
    ])
    let names = Set(scaling.rows.map(\.policy))
    for row in quality.rows where names.contains(row.policy) {
      table.append([
        row.policy,
        NumberText.percent(Double(row.totalBytes) / Double(max(1, row.exactBytes))),
        NumberText.decimal(row.bitsPerValue, 2),
        NumberText.significant(row.klMean),
        NumberText.percent(row.sameTop1),
      ])
    }
    return table
  }

  private var textTokens: Int { quality.rows.first?.tokens ?? 0 }
}

// MARK: - Codecs

extension MeasurementReport {
  /// Exact rows lie far to the right of everything else.
  private static let mostBits = 9.0

  private var distortionFigure: Figure {
    let families = distinct(distortion.rows.map(\.family))
    let bound = LineChart.Series(
      name: "bound",
      points: distortion.bound.map { LineChart.Point(x: $0.bitsPerValue, y: $0.relativeMSE) },
      style: .curve
    )
    let series = families.compactMap { family -> LineChart.Series? in
      let rows = distortion.rows.filter { $0.family == family && $0.bitsPerValue <= Self.mostBits }
      let points = rows.map { LineChart.Point(x: $0.bitsPerValue, y: $0.relativeMSE) }
      guard !points.isEmpty else { return nil }
      let isLine = points.count > 1 && rows.allSatisfy { $0.codec.contains(":") }
      return LineChart.Series(name: family, points: points, style: isLine ? .line : .points)
    }
    let chart = LineChart(
      title: "What a bit buys: distortion of normal values",
      horizontal: PlotAxis(
        title: "bits per value, everything counted",
        scale: .linear,
        text: NumberText.short
      ),
      vertical: PlotAxis(
        title: "relative squared error",
        scale: .logarithmic(base: 10),
        text: NumberText.short
      ),
      series: [bound] + series
    )
    return Figure(
      name: "distortion",
      summary: """
        Every codec on rows of 128 standard normal values: squared error over squared values, mean of keys and values, against all \
        bits that are stored. Lower and further left is better. No code lies below the bound 2^(-2R) of independent normal \
        values. Exact rows (16 bits) are in the table only.
        """,
      plot: chart,
      table: distortionTable
    )
  }

  private var distortionTable: TextTable {
    var table = TextTable([
      ("codec", .left), ("bits per value", .right), ("error, keys", .right),
      ("error, values", .right), ("dB", .right), ("bound", .right),
      ("encoding, ns a value", .right),
    ])
    for row in distortion.rows {
      table.append([
        row.codec,
        NumberText.decimal(row.bitsPerValue, 3),
        NumberText.significant(row.relativeMSEOfKeys),
        NumberText.significant(row.relativeMSEOfValues),
        NumberText.decimal(row.decibels, 2),
        NumberText.significant(exp2(-2 * row.bitsPerValue)),
        NumberText.decimal(row.encodeNanosecondsPerValue, 1),
      ])
    }
    return table
  }
}

extension CodecRow {
  /// The code without bits and options.
  fileprivate var family: String {
    String(codec.prefix { $0 != ":" && $0 != "@" })
  }

  fileprivate var relativeMSE: Double { (relativeMSEOfKeys + relativeMSEOfValues) / 2 }
}

// MARK: - The model

extension MeasurementReport {
  private var sensitivityFigure: Figure {
    let heads = (0..<kvHeads).map(String.init)
    let rows = (0..<layers).map { layer in
      HeatMap.Row(
        name: "\(layer)",
        values: sensitivity.rows.filter { $0.layer == layer }.map(\.klMean)
      )
    }
    var table = TextTable([
      ("layer", .right), ("KV head", .right), ("side", .left), ("KL mean, nats", .right),
    ])
    for row in sensitivity.rows {
      table.append([
        "\(row.layer)", "\(row.kvHead)", row.side, NumberText.significant(row.klMean),
      ])
    }
    return Figure(
      name: "sensitivity",
      summary: """
        KL divergence of predictions, in nats, when \(sensitivity.codec) encodes one side of one KV head in one layer and \
        everything else stays exact; \(sensitivity.tokens) tokens of text. Bright cells are where bits matter most. A cell that is \
        struck out was not measured.
        """,
      plot: HeatMap(
        title: "Where the model is sensitive",
        horizontalTitle: "KV head",
        verticalTitle: "layer",
        scaleTitle: "KL mean, nats (logarithmic)",
        groups: [
          HeatMap.Group(name: "keys", columns: heads),
          HeatMap.Group(name: "values", columns: heads),
        ],
        rows: rows,
        text: Self.twoDigits
      ),
      table: table
    )
  }

  private static func twoDigits(_ value: Double) -> String {
    value == 0 ? "0" : String(format: "%.1e", value).replacing("e-0", with: "e-")
  }

  private var attentionFigure: Figure {
    let policies = distinct(attentionError.rows.map(\.policy))
    // A policy looks the same in all figures.
    let numbered = distinct(scaling.rows.map(\.policy))
    var table = TextTable([
      ("policy", .left), ("first position", .right), ("relative error", .right),
    ])
    for row in attentionError.rows {
      table.append([
        row.policy, "\(row.position)", NumberText.significant(row.relativeError),
      ])
    }
    return Figure(
      name: "attention-error",
      summary: """
        Norm of the difference of attention's outputs over the norm of the exact ones, all layers together, each behind exact layers; \
        steps of \(attentionError.step) positions, \(textTokens) tokens of text. Lines begin where the history holds compressed pages.
        """,
      plot: LineChart(
        title: "Attention along the context",
        horizontal: PlotAxis(title: "position", scale: .linear) { NumberText.decimal($0, 0) },
        vertical: PlotAxis(
          title: "relative error",
          scale: .logarithmic(base: 10),
          text: NumberText.short
        ),
        series: policies.map { policy in
          LineChart.Series(
            name: policy,
            points: attentionError.rows.filter { $0.policy == policy }.map {
              LineChart.Point(x: Double($0.position), y: $0.relativeError)
            },
            number: numbered.firstIndex(of: policy)
          )
        }
      ),
      table: table
    )
  }
}
