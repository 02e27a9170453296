import NibblePolicy

extension KVCache {
  /// Causal attention of several sequences at once, each with as many new tokens' queries as the others.
  ///
  /// The same, bit for bit, as ``KVSequence/attend(queries:layer:options:into:)`` for one sequence after the other, but the
  /// threads share the work of all. Each sequence counts as it is when the call begins.
  ///
  /// - Parameters:
  ///   - sequences: Sequences of this cache, at least one; they may differ in length, and one may appear twice.
  ///   - queries: Shape (sequences, tokens, queryHeads, headDim), rotary embedding applied.
  ///   - layer: 0 ..< `shape.layers`.
  ///   - options: Scale, window and cap.
  ///   - output: The same shape as `queries`.
  /// - Throws: ``KVError`` for no sequences, one of another cache, wrong lengths and options.
  /// - Complexity: O(tokens · queryHeads · headDim · visible tokens of all sequences).
  public func attend(
    _ sequences: [KVSequence],
    queries: Span<Float>,
    layer: Int,
    options: AttentionOptions = .standard,
    into output: inout MutableSpan<Float>
  ) throws(KVError) {
    try check(sequences, queries: queries.count, layer: layer, output: output.count)
    try queries.withUnsafeBufferPointer { queries throws(KVError) in
      try output.withUnsafeMutableBufferPointer { output throws(KVError) in
        let scratch = try self.scratch.take()
        defer { self.scratch.giveBack(scratch) }
        let length = queries.count / sequences.count
        for (index, sequence) in sequences.enumerated() {
          let range = index * length..<(index + 1) * length
          let call = try AttentionCall(
            cache: self,
            state: try sequence.layerForAttention(layer),
            queries: UnsafeBufferPointer(rebasing: queries[range]),
            layer: layer,
            options: options,
            output: UnsafeMutableBufferPointer(rebasing: output[range]),
            sequence: index
          )
          if let call { scratch.add(call) }
        }
        try scratch.run(workers: workers)
        for share in scratch.shares { try gatherer?.add(queriesOf: share.call) }
      }
    }
  }

  private func check(
    _ sequences: [KVSequence],
    queries: Int,
    layer: Int,
    output: Int
  ) throws(KVError) {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    guard !sequences.isEmpty else {
      throw .invalidOption(name: "the number of sequences", value: "0", expected: "at least 1")
    }
    if let stranger = sequences.firstIndex(where: { $0.cache !== self }) {
      throw .invalidOption(
        name: "sequence \(stranger) of \(sequences.count)",
        value: "one of another cache",
        expected: "one of this cache"
      )
    }
    let row = sequences.count * shape.queryHeads * shape.headDim
    guard queries % row == 0 else {
      throw .wrongLength(what: "queries", count: queries, expected: "a multiple of \(row)")
    }
    guard output == queries else {
      throw .wrongLength(what: "output", count: output, expected: "\(queries)")
    }
  }
}
