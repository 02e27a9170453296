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

/// What was read, in one line above the table.
func qualityHeader(_ row: QualityRow) -> String {
  var line = "\(row.model): \(row.tokens) tokens in \(row.documents) documents"
  if row.questions > 0 { line += ", \(row.questions) questions" }
  return line + "; exact bytes are float16 rows; bytes are means over the documents"
}

private func divergence(_ row: QualityRow) -> String {
  guard row.klMean != nil else { return "-" }
  let interval = [row.klMeanLow, row.klMeanHigh].map(NumberText.significant)
  return "\(NumberText.significant(row.klMean)) [\(interval.joined(separator: ", "))]"
}
