public import NibbleCodec

extension Plan {
  /// Equal entries of several layers and heads, as one line of ``explanation``.
  public struct Group: Hashable, Sendable {
    /// The layers, from 0.
    public let layers: [ClosedRange<Int>]
    /// The KV heads, from 0.
    public let heads: [ClosedRange<Int>]
    /// Keys or values.
    public let side: KVSide
    /// What pages are encoded with.
    public let codec: CodecDescription
    /// Bits per value, with everything that is stored.
    public let bitsPerValue: Double
    /// Bytes per token of all layers and heads of the group together.
    public let bytesPerToken: Double
    /// What decided it.
    public let reason: String
  }

  /// The entries with equal ones merged, by first layer, then keys before values, then first head.
  public var groups: [Group] {
    var order: [HeadGroup] = []
    var layersOf: [HeadGroup: [Int]] = [:]
    for layer in 0..<shape.layers {
      for side in KVSide.allCases {
        for group in headGroups(layer, side) {
          if layersOf[group] == nil { order.append(group) }
          layersOf[group, default: []].append(layer)
        }
      }
    }
    return order.map { group in
      let layers = layersOf[group] ?? []
      let strips = layers.count * group.heads.count
      return Group(
        layers: IndexSelection.ranges(of: layers),
        heads: IndexSelection.ranges(of: group.heads),
        side: group.side,
        codec: group.codec,
        bitsPerValue: group.bitsPerValue,
        bytesPerToken: group.bytesPerToken * Double(strips),
        reason: group.reason
      )
    }
  }

  /// The plan as a text: a line for each group, the sum, and what is not compressed.
  public var explanation: String {
    let header = ["layers", "KV heads", "side", "codec", "bits/value", "bytes/token", "reason"]
    var rows = [header]
    let groups = groups
    for group in groups {
      rows.append([
        IndexSelection.text(group.layers, of: shape.layers),
        IndexSelection.text(group.heads, of: shape.kvHeads),
        group.side.rawValue,
        "\(group.codec)",
        decimal(group.bitsPerValue),
        decimal(group.bytesPerToken),
        group.reason,
      ])
    }
    let bytes = groups.reduce(0) { $0 + $1.bytesPerToken }
    return """
      policy \(policy.label): page_tokens \(policy.pageTokens), sinks \(policy.sinks), \
      recent \(policy.recent), exact_rows \(policy.exact)\(skippingText)
      model: \(shape.layers) layers, \(shape.queryHeads) query heads, \
      \(shape.kvHeads) KV heads, head dimension \(shape.headDim)

      \(table(rows, rightAligned: [4, 5]))

      sealed pages: \(decimal(bitsPerValue)) bits per value, \(decimal(bytes)) bytes per token\(summaryText)
      not compressed:
      \(notes.map { "- \($0)" }.joined(separator: "\n"))

      """
  }

  private var skippingText: String {
    policy.skipBelow > 0 ? ", skip_below \(policy.skipBelow)" : ""
  }

  private var summaryText: String {
    guard policy.skipBelow > 0 else { return "" }
    let bytes = layers.reduce(0) { $0 + $1.pageLayout.summaryBytes }
    let perToken = decimal(Double(bytes) / Double(policy.pageTokens))
    return """

      skipping: at most \(policy.skipBelow) of a query's softmax weight is left out; summaries of keys take \
      \(perToken) more bytes per token
      """
  }

  /// Equal entries of one layer and side.
  private struct HeadGroup: Hashable {
    var side: KVSide
    var codec: CodecDescription
    var bitsPerValue: Double
    var bytesPerToken: Double
    var reason: String
    var heads: [Int]
  }

  private func headGroups(_ layer: Int, _ side: KVSide) -> [HeadGroup] {
    var groups: [HeadGroup] = []
    for head in 0..<shape.kvHeads {
      let entry = entry(layer: layer, head: head, side: side)
      let same = groups.firstIndex { $0.codec == entry.codec && $0.reason == entry.reason }
      if let same {
        groups[same].heads.append(head)
        continue
      }
      groups.append(
        HeadGroup(
          side: side,
          codec: entry.codec,
          bitsPerValue: entry.bitsPerValue,
          bytesPerToken: entry.bytesPerToken,
          reason: entry.reason,
          heads: [head]
        )
      )
    }
    return groups
  }
}

/// At most three decimals, without trailing zeros.
private func decimal(_ value: Double) -> String {
  let thousandths = Int((value * 1000).rounded())
  let digits = String(thousandths % 1000 + 1000).dropFirst()
  let fraction = digits.reversed().drop { $0 == "0" }.reversed()
  let whole = String(thousandths / 1000)
  return fraction.isEmpty ? whole : whole + "." + String(fraction)
}

private func table(_ rows: [[String]], rightAligned: Set<Int>) -> String {
  let columns = rows[0].indices
  let widths = columns.map { column in rows.map { $0[column].count }.max() ?? 0 }
  let lines = rows.map { row in
    columns.map { column in
      let space = String(repeating: " ", count: widths[column] - row[column].count)
      if column == columns.upperBound - 1 { return row[column] }
      return rightAligned.contains(column) ? space + row[column] : row[column] + space
    }
    .joined(separator: "  ")
  }
  return lines.joined(separator: "\n")
}
