import Foundation
import NibbleKV
import Testing

/// The embedding example of the README: its lines are compiled and run here, and compared with the file.
@Suite struct ReadmeExampleTests {
  @Test func exampleRuns() throws {
    var output = [Float](repeating: 0, count: 32 * 128)
    func project(_ layer: Int) -> (queries: [Float], keys: [Float], values: [Float]) {
      let ramp = (0..<32 * 128).map { Float(($0 + layer) % 7) - 3 }
      return (ramp, Array(ramp.prefix(8 * 128)), Array(ramp.suffix(8 * 128)))
    }

    // README: begin
    let model = ModelShape(layers: 32, queryHeads: 32, kvHeads: 8, headDim: 128)
    let cache = try KVCache(model: model, policy: .balanced, budget: .gibibytes(2))
    let sequence = cache.makeSequence()

    for layer in 0..<model.layers {
      // Rows as your model makes them, after RoPE: [tokens, heads, headDim].
      let (queries, keys, values) = project(layer)
      try sequence.append(keys: keys.span, values: values.span, layer: layer)
      var rows = output.mutableSpan
      try sequence.attend(queries: queries.span, layer: layer, into: &rows)
    }
    let branch = sequence.fork()  // shares the sealed pages
    try branch.truncate(to: 1)
    print(sequence.statistics.totalBytes, "bytes instead of", sequence.statistics.exactBytes)
    // README: end

    // With one token, attention is its value row, for every query head of a group.
    let lastValues = project(31).values
    let largestError = output.indices.map { index in
      let (head, channel) = (index / 128, index % 128)
      return abs(output[index] - lastValues[head / 4 * 128 + channel])
    }.max()
    #expect(try #require(largestError) < 1e-2)
    #expect(branch.tokenCount == 1)
  }

  @Test func readmeHasTheSameLines() throws {
    let readme = try String(
      contentsOf: CompiledExample.root.appending(path: "README.md"),
      encoding: .utf8
    )
    let opening = try #require(readme.range(of: "```swift\nimport NibbleKV\n\n"))
    let closing = try #require(
      readme.range(of: "\n```", range: opening.upperBound..<readme.endIndex)
    )
    let shown = readme[opening.upperBound..<closing.lowerBound].split(
      separator: "\n",
      omittingEmptySubsequences: false
    ).map(String.init)
    #expect(try CompiledExample.blocks(marked: "README", in: #filePath) == [shown])
  }
}
