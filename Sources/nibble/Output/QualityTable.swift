import NibbleEval

/// The table of `eval` and `compare`.
///
/// Tokens and bytes are means over the documents, so that a row reads as one context.
func qualityTable(_ rows: [QualityRow]) -> String {
  var table = TextTable([
    ("policy", .left), ("context", .right), ("compressed tokens", .right),
    ("exact bytes", .right), ("compressed bytes", .right), ("ratio", .right),
    ("bits/value", .right), ("KL mean [95 %], nats", .right), ("KL median", .right),
    ("KL p99", .right),
    ("same top 1", .right), ("perplexity", .right), ("exact", .right),
    ("recall", .right), ("exact", .right),
  ])
  for row in rows {
    let documents = max(1, row.documents)
    table.append([
      row.policy,
      "\(row.tokens / documents)",
      "\(row.compressedTokens / documents)",
      NumberText.bytes(row.exactBytes / documents),
      NumberText.bytes(row.totalBytes / documents),
      NumberText.decimal(Double(row.exactBytes) / Double(max(1, row.totalBytes)), 2),
      NumberText.decimal(row.bitsPerValue, 3),
      divergence(row),
      NumberText.significant(row.klMedian),
      NumberText.significant(row.klP99),
      NumberText.percent(row.sameTop1),
      NumberText.decimal(row.perplexity, 3),
      NumberText.decimal(row.perplexityExact, 3),
      NumberText.percent(row.recall),
      NumberText.percent(row.recallExact),
    ])
  }
  return table.text
}

/// The table of `compare --codecs`.
func codecTable(_ rows: [CodecRow]) -> String {
  var table = TextTable([
    ("codec", .left), ("bits/value", .right), ("relative MSE, keys", .right), ("values", .right),
    ("dB", .right), ("encode ns/value", .right), ("decode GB/s", .right),
  ])
  for row in rows {
    table.append([
      row.codec,
      NumberText.decimal(row.bitsPerValue, 3),
      NumberText.decimal(row.relativeMSEOfKeys, 6),
      NumberText.decimal(row.relativeMSEOfValues, 6),
      NumberText.decimal(row.decibels, 2),
      NumberText.decimal(row.encodeNanosecondsPerValue, 2),
      row.decodeBytesPerSecond.map { NumberText.decimal($0 / 1e9, 2) } ?? "",
    ])
  }
  return table.text
}

/// The table of `compare --codecs` on a model.
func codecTable(_ rows: [CodecModelRow]) -> String {
  let hasRatio = rows.contains { $0.klRatio != nil }
  var columns: [(name: String, alignment: TextTable.Alignment)] = [
    ("codec", .left), ("bits/value", .right), ("with tail", .right), ("tokens", .right),
    ("MSE, keys", .right), ("values", .right), ("attention error", .right),
    ("softmax KL", .right), ("logit KL mean [95 %]", .right), ("median", .right),
    ("p99", .right), ("same top 1", .right), ("recall", .right), ("encode ns", .right),
    ("decode GB/s", .right),
  ]
  if hasRatio { columns.append(("KL ratio [95 %]", .right)) }
  var table = TextTable(columns)
  for row in rows {
    var cells = [
      row.codec,
      NumberText.decimal(row.bitsPerValue, 3),
      NumberText.decimal(row.totalBitsPerValue, 3),
      "\(row.compressedTokens)",
      NumberText.significant(row.relativeMSEOfKeys),
      NumberText.significant(row.relativeMSEOfValues),
      NumberText.significant(row.attentionError),
      NumberText.significant(row.softmaxKL),
      interval(row.logitKL, row.logitKLLow, row.logitKLHigh),
      NumberText.significant(row.logitKLMedian),
      NumberText.significant(row.logitKLP99),
      NumberText.percent(row.sameTop1),
      NumberText.percent(row.recall),
      row.encodeNanosecondsPerValue.map { NumberText.decimal($0, 2) } ?? "",
      row.decodeBytesPerSecond.map { NumberText.decimal($0 / 1e9, 2) } ?? "",
    ]
    if hasRatio { cells.append(interval(row.klRatio, row.klRatioLow, row.klRatioHigh)) }
    table.append(cells)
  }
  return table.text
}

/// Whether clustering beats evenly spaced levels: one sentence for each pair that differs in nothing else.
func clusteringSentences(_ rows: [CodecModelRow]) -> [String] {
  rows.compactMap { row in
    guard row.codec.hasPrefix("clustered") else { return nil }
    let name = "linear" + row.codec.dropFirst("clustered".count)
    guard
      let other = rows.first(where: { $0.codec == name }),
      let own = row.logitKL, let reference = other.logitKL, reference > 0
    else { return nil }
    let bits = row.totalBitsPerValue - other.totalBitsPerValue
    return """
      \(row.codec) leaves \(NumberText.decimal(own / reference, 2)) x the logit KL of \(name), \
      at \(NumberText.decimal(abs(bits), 2)) bits \(bits < 0 ? "less" : "more") a value.
      """
  }
}

/// What was read, in one line above the table.
func qualityHeader(_ row: QualityRow) -> String {
  var line = "\(row.model): \(row.tokens) tokens in \(row.documents) documents"
  if row.questions > 0 { line += ", \(row.questions) questions" }
  return line + "; exact bytes are float16 rows; bytes are means over the documents"
}

private func divergence(_ row: QualityRow) -> String {
  interval(row.klMean, row.klMeanLow, row.klMeanHigh)
}

private func interval(_ value: Double?, _ low: Double?, _ high: Double?) -> String {
  guard value != nil else { return "-" }
  let ends = [low, high].map(NumberText.significant)
  return "\(NumberText.significant(value)) [\(ends.joined(separator: ", "))]"
}
