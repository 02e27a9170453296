import NibbleCodec
import NibblePolicy

extension KVSequence {
  /// The rows that attention sees, decoded: what sealing left of them, in the model's space.
  ///
  /// For tests, measurements and hosts that must move on to another cache. Each of the two results has the shape
  /// (tokens, kvHeads, headDim). Rows that were dropped behind a sliding window are zero.
  ///
  /// - Parameter layer: 0 ..< `shape.layers`.
  /// - Returns: The keys and the values of all tokens of the layer.
  /// - Throws: ``KVError/layerOutOfRange(layer:layers:)`` or ``KVError/codec(_:)``.
  /// - Complexity: O(tokens · kvHeads · headDim).
  public func decodedRows(layer: Int) throws(KVError) -> (keys: [Float], values: [Float]) {
    guard layer >= 0, layer < shape.layers else {
      throw .layerOutOfRange(layer: layer, layers: shape.layers)
    }
    return try RowReader.rows(
      kernels: cache.layers[layer],
      state: snapshot(layer: layer),
      shape: shape
    )
  }
}

/// Decodes all rows of a layer.
struct RowReader {
  private let kernels: LayerKernels
  private let state: LayerState
  private let shape: ModelShape
  private var keys: [Float]
  private var values: [Float]

  /// The keys and the values of all tokens: (tokens, kvHeads, headDim).
  static func rows(
    kernels: LayerKernels,
    state: LayerState,
    shape: ModelShape
  ) throws(KVError) -> (keys: [Float], values: [Float]) {
    var reader = RowReader(kernels: kernels, state: state, shape: shape)
    try reader.readAll()
    return (reader.keys, reader.values)
  }

  private init(kernels: LayerKernels, state: LayerState, shape: ModelShape) {
    self.kernels = kernels
    self.state = state
    self.shape = shape
    let count = state.tokenCount * shape.kvHeads * shape.headDim
    keys = [Float](repeating: 0, count: count)
    values = keys
  }

  private mutating func readAll() throws(KVError) {
    let geometry = kernels.geometry
    let plan = kernels.plan
    if let page = state.sinkPage {
      let count = geometry.sinkTokens(of: state.tokenCount)
      try read(page, plan.sinkLayout, from: 0, count: count, means: nil)
    }
    for (index, page) in state.pages.enumerated().dropFirst(state.droppedCount) {
      let first = geometry.sinks + index * geometry.pageTokens
      let count = min(geometry.pageTokens, state.tokenCount - first)
      let isSealed = index < state.sealedCount
      try read(
        page,
        isSealed ? plan.rungs[state.rung(of: index)].pageLayout : plan.exactLayout,
        from: first,
        count: count,
        means: isSealed ? state.means?.means(ofPage: index) : nil
      )
    }
  }

  private mutating func read(
    _ page: Page,
    _ layout: PageLayout,
    from first: Int,
    count: Int,
    means: StripMeans?
  ) throws(KVError) {
    try page.withBytes { base throws(KVError) in
      for (head, offsets) in layout.heads.enumerated() {
        let keyRows = try rows(
          layout.keys[head],
          codes: base + offsets.keyCodes,
          side: base + offsets.keySide,
          mean: means?.mean(for: layout.keys[head], head: head)
        )
        Self.place(keyRows, of: head, from: first, count: count, shape: shape, in: &keys)
        let valueRows = try rows(
          layout.values[head],
          codes: base + offsets.valueCodes,
          side: base + offsets.valueSide,
          mean: means?.mean(for: layout.values[head], head: head)
        )
        Self.place(valueRows, of: head, from: first, count: count, shape: shape, in: &values)
      }
    }
  }

  private func rows(
    _ codec: StripCodec,
    codes: UnsafePointer<UInt8>,
    side: UnsafePointer<UInt8>,
    mean: [Float]?
  ) throws(KVError) -> [Float] {
    var rows = [Float](repeating: 0, count: codec.valueCount)
    do throws(CodecError) {
      try rows.withUnsafeMutableBufferPointer { rows throws(CodecError) in
        guard let target = rows.baseAddress else { return }
        try codec.decode(codes: codes, side: side, mean: mean, into: target)
      }
    } catch {
      throw .codec(error)
    }
    return rows
  }

  private static func place(
    _ rows: [Float],
    of head: Int,
    from first: Int,
    count: Int,
    shape: ModelShape,
    in result: inout [Float]
  ) {
    let dim = shape.headDim
    for token in 0..<count {
      let target = ((first + token) * shape.kvHeads + head) * dim
      for channel in 0..<dim { result[target + channel] = rows[token * dim + channel] }
    }
  }
}
