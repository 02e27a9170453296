import NibbleKV

extension MeasurementReport {
  var qualityFigure: Figure {
    let presets = Set(Policy.presetNames)
    let uniform = Set(ReportRun.uniform)
    func series(_ name: String, where belongs: (String) -> Bool) -> LineChart.Series {
      let rows = quality.rows.filter { belongs($0.policy) }
      return LineChart.Series(name: name, points: rows.compactMap(Self.point), style: .points)
    }
    // Where points crowd, only those that matter most are named in the picture.
    let named = Set(quality.front + scaling.rows.map(\.policy))
    var plain = series("one codec for everything") {
      uniform.contains($0) && !presets.contains($0)
    }
    for index in plain.points.indices {
      plain.points[index].isNamed = plain.points[index].label.map(named.contains) ?? false
    }
    let front = quality.front.compactMap { name in
      quality.rows.first { $0.policy == name }.flatMap(Self.point)
    }
    let all = [
      series("presets") { presets.contains($0) },
      plain,
      series("given policies") { !presets.contains($0) && !uniform.contains($0) },
      LineChart.Series(name: "Pareto front", points: front, style: .curve),
    ]
    return Figure(
      name: "quality",
      summary: """
        Mean KL divergence of predictions from those of an exact cache, with its 95 % interval, against all bytes that \
        \(quality.rows.first?.tokens ?? 0) tokens of text in \(NumberText.count(quality.rows.first?.documents ?? 0, "document")) hold \
        at the end: pages, tail and sinks. Lower and further left is better; no policy is both smaller and closer to exact than one on \
        the front. A pointer and the table tell the names of the other points.
        """,
      plot: LineChart(
        title: "Quality against bytes",
        horizontal: PlotAxis(
          title: "total bytes",
          scale: .logarithmic(base: 2),
          text: NumberText.roundBytes
        ),
        vertical: PlotAxis(
          title: "KL mean, nats",
          scale: .logarithmic(base: 10),
          text: NumberText.short
        ),
        series: all.filter { !$0.points.isEmpty }
      ),
      table: qualityTable
    )
  }

  private static func point(_ row: QualityRow) -> LineChart.Point? {
    guard let mean = row.klMean else { return nil }
    var interval: ClosedRange<Double>?
    if let low = row.klMeanLow, let high = row.klMeanHigh, low <= high { interval = low...high }
    return LineChart.Point(
      x: Double(row.totalBytes),
      y: mean,
      label: row.policy,
      interval: interval
    )
  }

  private var qualityTable: TextTable {
    var table = TextTable([
      ("policy", .left), ("total bytes", .right), ("of float16", .right),
      ("bits per value", .right), ("KL mean, nats", .right), ("low", .right), ("high", .right),
      ("same top 1", .right), ("on the front", .left),
    ])
    for row in quality.rows {
      table.append([
        row.policy,
        "\(row.totalBytes)",
        NumberText.percent(Double(row.totalBytes) / Double(max(1, row.exactBytes))),
        NumberText.decimal(row.bitsPerValue, 3),
        NumberText.significant(row.klMean),
        NumberText.significant(row.klMeanLow),
        NumberText.significant(row.klMeanHigh),
        NumberText.percent(row.sameTop1),
        quality.front.contains(row.policy) ? "yes" : "",
      ])
    }
    return table
  }
}

// MARK: - Bytes and time

extension MeasurementReport {
  var memoryFigure: Figure {
    scalingFigure(
      name: "memory",
      summary:
        "Bytes that one layer of the model holds, pages, tail and sinks, after a context of random rows.",
      plot: ScalingReport(rows: scaling.rows).memoryChart,
      column: "bytes",
      cell: { "\($0.pageBytes)" }
    )
  }

  var timeFigure: Figure {
    let first = scaling.rows.first
    let leastRuns = scaling.rows.map(\.runs).min() ?? 0
    return scalingFigure(
      name: "time",
      summary: """
        Median time of attention of one new token over the context in one layer, pages cold, policies in turn; \
        \(NumberText.count(first?.threads ?? 0, "thread")), \(isa), at least \(NumberText.count(leastRuns, "run")). Ratios within this figure count more than times.
        """,
      plot: ScalingReport(rows: scaling.rows).chart,
      column: "median",
      cell: { NumberText.duration(microseconds: $0.medianMicroseconds) }
    )
  }

  private func scalingFigure(
    name: String,
    summary: String,
    plot: LineChart,
    column: String,
    cell: (ScalingRow) -> String
  ) -> Figure {
    var table = TextTable([("policy", .left), ("tokens", .right), (column, .right)])
    for row in scaling.rows { table.append([row.policy, "\(row.tokens)", cell(row)]) }
    return Figure(name: name, summary: summary, plot: plot, table: table)
  }
}

// MARK: - Pages

extension MeasurementReport {
  func pageFigure(_ report: PageReport, number: Int) -> Figure {
    var table = TextTable([
      ("layer", .right), ("KV heads", .left), ("side", .left), ("first token", .right),
      ("tokens", .right), ("kind", .left), ("codec", .left), ("bits per value", .right),
    ])
    for row in report.rows {
      for stretch in row.stretches {
        table.append([
          "\(row.layer)", row.kvHeads, row.side, "\(stretch.firstToken)", "\(stretch.tokens)",
          stretch.kind, stretch.codec ?? "", NumberText.decimal(stretch.bitsPerValue, 3),
        ])
      }
    }
    return Figure(
      name: "pages-\(number)",
      summary: """
        What each layer of a cache with the policy \(report.policy) holds after \(report.tokens) tokens of text: pages of \
        \(report.pageTokens) tokens in the codec of the legend, \(report.sinks) exact tokens at the start, and the exact tail. \
        A bar is as high as the logarithm of its bits per value.
        """,
      plot: PageMap(
        title: "Pages of a cache: \(report.policy)",
        verticalTitle: "layer and side",
        tokens: report.tokens,
        pageStarts: Array(stride(from: report.sinks, to: report.tokens, by: report.pageTokens)),
        rows: report.rows.map(Self.band)
      ),
      table: table
    )
  }

  private static func band(_ row: PageReport.Row) -> PageMap.Row {
    let heads = row.kvHeads == "\(IndexSelection.all)" ? "" : ", head \(row.kvHeads)"
    let stretches = row.stretches.compactMap { stretch -> PageMap.Stretch? in
      guard let codec = stretch.codec, let bits = stretch.bitsPerValue else { return nil }
      let isSealed = stretch.kind == PageReport.Stretch.sealed
      return PageMap.Stretch(
        tokens: stretch.firstToken..<stretch.firstToken + stretch.tokens,
        kind: isSealed ? codec : "\(stretch.kind): \(codec)",
        bitsPerValue: bits
      )
    }
    return PageMap.Row(name: "\(row.layer) \(row.side)\(heads)", stretches: stretches)
  }
}
