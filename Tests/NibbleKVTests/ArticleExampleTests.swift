import Foundation
import NibbleKV
import Testing

/// The code of the articles: what stands between the marks is compiled and run here, and compared with the articles, block by block.
@Suite struct ArticleExampleTests {
  @Test func embedding() throws {
    var output = [Float](repeating: 0, count: 8 * 64)
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("\(UUID().uuidString).session").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    func project(_ layer: Int) -> (queries: [Float], keys: [Float], values: [Float]) {
      let ramp = (0..<8 * 64).map { Float(($0 + layer) % 7) - 3 }
      return (ramp, Array(ramp.prefix(2 * 64)), Array(ramp.suffix(2 * 64)))
    }

    // EmbedInTenMinutes: begin
    let model = ModelShape(
      layers: 4,
      queryHeads: 8,
      kvHeads: 2,
      headDim: 64,
      slidingWindows: [nil, 256, nil, 256]
    )
    // EmbedInTenMinutes: end

    // EmbedInTenMinutes: begin
    let policy = try Policy(argument: "k=int8+v=rotated:4")
    let cache = try KVCache(model: model, policy: policy, budget: .mebibytes(64))
    // EmbedInTenMinutes: end

    // EmbedInTenMinutes: begin
    let sequence = cache.makeSequence()
    for layer in 0..<model.layers {
      let (queries, keys, values) = project(layer)
      try sequence.append(keys: keys.span, values: values.span, layer: layer)
      var options = AttentionOptions.standard
      options.window = model.slidingWindows[layer]
      var rows = output.mutableSpan
      try sequence.attend(queries: queries.span, layer: layer, options: options, into: &rows)
    }
    // EmbedInTenMinutes: end

    // EmbedInTenMinutes: begin
    let branch = sequence.fork()
    try branch.truncate(to: 1)
    try sequence.save(to: path)
    let restored = try cache.restoreSequence(from: path)
    // EmbedInTenMinutes: end

    // EmbedInTenMinutes: begin
    let held = sequence.statistics
    print(
      "\(held.totalBytes) bytes instead of \(held.exactBytes),",
      "\(held.compressedTokens) tokens compressed"
    )
    // EmbedInTenMinutes: end

    // EmbedInTenMinutes: begin
    let estimate = try cache.plan.estimate(context: 32_768, threads: 2)
    print(estimate.total, estimate.bytesPerToken)
    // EmbedInTenMinutes: end

    #expect(branch.tokenCount == 1 && restored.tokenCount == 1)
    // Of one token, attention is its value row.
    let last = project(3).values
    #expect(output.indices.allSatisfy { abs(output[$0] - last[$0 / 256 * 64 + $0 % 64]) < 1e-2 })
    #expect(estimate.compressedTokens > 32_000)
  }

  @Test func choosing() throws {
    // ChooseAPolicy: begin
    let careful = Policy(
      keys: .rotated(4).centred,
      values: .linear(4),
      recent: 128,
      rules: [
        Policy.Rule(layers: [.first(2), .last(2)], keys: .int8),
        Policy.Rule(layers: [.range(8...11)], values: .rotated(3)),
      ]
    )
    let model = ModelShape(layers: 32, queryHeads: 32, kvHeads: 8, headDim: 128)
    let plan = try Plan(policy: careful, shape: model)
    print(plan.explanation)
    // ChooseAPolicy: end

    // The article's file says the same.
    let article = try Self.article("ChooseAPolicy")
    let yaml = try #require(Self.blocks(of: article, "yaml").first).joined(separator: "\n")
    #expect(try Policy(yaml: yaml) == careful)
  }

  // WriteACodec: begin
  struct SignCodec: CustomCodec {
    let name = "sign"

    func byteCount(tokens: Int, headDim: Int) -> Int {
      tokens * (4 + (headDim + 7) / 8)
    }

    func encode(
      rows: Span<Float>,
      tokens: Int,
      headDim: Int,
      into bytes: inout MutableSpan<UInt8>
    ) {
      let length = 4 + (headDim + 7) / 8
      for token in 0..<tokens {
        var sum: Float = 0
        for channel in 0..<headDim { sum += abs(rows[token * headDim + channel]) }
        let magnitude = (sum / Float(headDim)).bitPattern
        for byte in 0..<4 {
          bytes[token * length + byte] = UInt8(truncatingIfNeeded: magnitude >> (8 * byte))
        }
        for byte in 0..<(headDim + 7) / 8 {
          var signs: UInt8 = 0
          for channel in 8 * byte..<min(headDim, 8 * byte + 8)
          where rows[token * headDim + channel] < 0 {
            signs |= 1 << (channel % 8)
          }
          bytes[token * length + 4 + byte] = signs
        }
      }
    }

    func decode(
      bytes: Span<UInt8>,
      tokens: Int,
      headDim: Int,
      into rows: inout MutableSpan<Float>
    ) {
      let length = 4 + (headDim + 7) / 8
      for token in 0..<tokens {
        var pattern: UInt32 = 0
        for byte in 0..<4 { pattern |= UInt32(bytes[token * length + byte]) << (8 * byte) }
        let magnitude = Float(bitPattern: pattern)
        for channel in 0..<headDim {
          let signs = bytes[token * length + 4 + channel / 8]
          let isNegative = signs >> (channel % 8) & 1 == 1
          rows[token * headDim + channel] = isNegative ? -magnitude : magnitude
        }
      }
    }
  }
  // WriteACodec: end

  @Test func writingACodec() throws {
    let model = ModelShape(layers: 1, queryHeads: 2, kvHeads: 1, headDim: 64)
    // WriteACodec: begin
    var catalogue = CodecCatalogue()
    try catalogue.register(SignCodec())
    let policy = try Policy(
      argument: "k=int8+v=sign@v.rotation=hadamard@v.mean=removed",
      catalogue: catalogue
    )
    let cache = try KVCache(model: model, policy: policy, catalogue: catalogue)
    // WriteACodec: end

    let rows = TokenRows(400, shape: model, seed: 5)
    let sequence = cache.makeSequence()
    try rows.append(0..<400, to: sequence)
    try rows.append(0..<1, to: sequence)
    #expect(sequence.statistics.compressedTokens > 0)
    // Of normal values, magnitude and sign leave 1 - 2/pi of the squares; attention averages much of that out.
    let exact = try KVCache(model: model, policy: .exact).makeSequence()
    try rows.append(0..<400, to: exact)
    try rows.append(0..<1, to: exact)
    let queries = randomQueries(shape: model)
    let error = relativeError(
      try sequence.attended(queries),
      try exact.attended(queries).map(Double.init)
    )
    #expect(error > 0.01 && error < 0.75)
  }

  @Test(arguments: [
    "EmbedInTenMinutes", "ChooseAPolicy", "ReadTheReport", "WriteACodec", "HowTheKernelsWork",
  ])
  func articlesHaveTheSameLines(name: String) throws {
    let shown = Self.blocks(of: try Self.article(name), "swift")
    #expect(shown == (try CompiledExample.blocks(marked: name, in: #filePath)))
  }

  @Test func allArticlesAreKnown() throws {
    let known = [
      "EmbedInTenMinutes", "ChooseAPolicy", "ReadTheReport", "WriteACodec", "HowTheKernelsWork",
    ]
    let modules = [
      "NibbleCodec", "NibblePolicy", "NibbleKV", "NibbleGenerate", "NibbleLlama", "NibbleEval",
    ]
    #expect(Set(try Self.articles().keys) == Set(known + modules))
    for module in modules {
      #expect(Self.blocks(of: try Self.article(module), "swift").isEmpty)
    }
  }

  /// The articles of all catalogues by name.
  private static func articles() throws -> [String: URL] {
    let sources = CompiledExample.root.appending(path: "Sources")
    var articles: [String: URL] = [:]
    for module in try FileManager.default.contentsOfDirectory(atPath: sources.path) {
      let folder = sources.appending(path: "\(module)/\(module).docc")
      let files = try? FileManager.default.contentsOfDirectory(
        at: folder,
        includingPropertiesForKeys: nil
      )
      for file in files ?? [] { articles[file.deletingPathExtension().lastPathComponent] = file }
    }
    return articles
  }

  private static func article(_ name: String) throws -> String {
    try String(contentsOf: try #require(articles()[name]), encoding: .utf8)
  }

  private static func blocks(of article: String, _ language: String) -> [[String]] {
    var blocks: [[String]] = []
    var isInside = false
    for line in article.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
      if isInside {
        if line == "```" { isInside = false } else { blocks[blocks.count - 1].append(line) }
      } else if line == "```\(language)" {
        isInside = true
        blocks.append([])
      }
    }
    return blocks
  }
}
