internal import CNibble

/// Works out where a strip's codes, scales and tables lie.
struct StripLayoutBuilder {
  let description: CodecDescription
  let side: KVSide
  let headDim: Int
  let pageTokens: Int

  private(set) var layout = nibble_strip()
  private(set) var rule = NIBBLE_RULE_COPY
  private(set) var levels = 0
  private(set) var bytes = StripCodec.Bytes(codes: 0, tables: 0, scales: 0)

  init(description: CodecDescription, side: KVSide, headDim: Int, pageTokens: Int) {
    self.description = description
    self.side = side
    self.headDim = headDim
    self.pageTokens = pageTokens
    layout.kind = Int32(NIBBLE_FLOAT32.rawValue)
    layout.is_values = side == .values ? 1 : 0
    layout.tokens = Int32(pageTokens)
    layout.channels = Int32(headDim)
    layout.block_tokens = Int32(min(pageTokens, Int(NIBBLE_MAX_BLOCK_TOKENS)))
    layout.group_channels = Int32(headDim)
    layout.token_scale = -1
    layout.token_zero = -1
    layout.channel_scale = -1
    layout.channel_zero = -1
    layout.table = -1
    layout.outliers = -1
    layout.fixed_scale = 1
  }

  /// A codec of pages, a host's or one of our own: its bytes are opaque, and attention sees the float rows that it decodes to.
  mutating func custom(byteCount: Int) throws(CodecError) {
    try checkOptions()
    nibble_strip_measure(&layout)
    bytes.codes = (byteCount + 63) & ~63
  }

  mutating func build() throws(CodecError) {
    try checkOptions()
    switch description.code {
    case .float32: layout.kind = Int32(NIBBLE_FLOAT32.rawValue)
    case .float16: layout.kind = Int32(NIBBLE_FLOAT16.rawValue)
    case .bfloat16: layout.kind = Int32(NIBBLE_BFLOAT16.rawValue)
    case .int8, .linear: try evenLevels()
    case .clustered: try fittedTable()
    case .rotated: try fixedTable()
    case .trellis: try trellis()
    case .bcq: try codebooks()
    case .microscaling, .pyramid, .seeded, .custom: break
    }
    addOutliers()
    nibble_strip_measure(&layout)
    bytes.codes = Int(layout.code_bytes)
    layout.side_bytes = Int32(bytes.side)
  }

  // MARK: - Kinds

  private mutating func evenLevels() throws(CodecError) {
    levels = 1 << description.bits
    layout.kind = Self.kind(bits: description.bits)
    rule =
      switch (description.zeroPoint, description.clipsRange) {
      case (true, false): NIBBLE_RULE_ZERO_POINT
      case (true, true): NIBBLE_RULE_ZERO_POINT_CLIPPED
      case (false, false): NIBBLE_RULE_SYMMETRIC
      case (false, true): NIBBLE_RULE_SYMMETRIC_CLIPPED
      }
    // With a zero point a code stands for itself; symmetric codes lie about zero.
    let zeroPoint = description.zeroPoint
    if description.bits < 8 {
      setTable((0..<levels).map { Int8(zeroPoint ? $0 : 2 * $0 - (levels - 1)) }, unit: 1)
    }
    try addScales(zeros: zeroPoint)
  }

  private mutating func fittedTable() throws(CodecError) {
    levels = 1 << description.bits
    layout.kind = Self.kind(bits: description.bits)
    rule = NIBBLE_RULE_FITTED
    layout.table = addSide(Int(NIBBLE_TABLE_ENTRIES) + 8, to: \.tables)
    if description.axis != .none { try addScales(zeros: false) }
  }

  private mutating func fixedTable() throws(CodecError) {
    levels = 1 << description.bits
    layout.kind = Self.kind(bits: description.bits)
    rule = NIBBLE_RULE_FIXED
    let table = LloydMax.table(bits: description.bits)
    setTable(table.entries, unit: table.unit)
    try addScales(zeros: false)
  }

  private mutating func trellis() throws(CodecError) {
    levels = 1 << description.bits
    // The kinds stand one after the other, from 4 bits down.
    layout.kind = Int32(NIBBLE_TRELLIS4.rawValue) + 4 - Int32(description.bits)
    rule = NIBBLE_RULE_TRELLIS
    layout.fixed_scale = nibble_constant_unit(layout.kind)
    try addScales(zeros: false)
    // A chain has one code in each tile, and its window of eight bits must not meet itself.
    let tiles = min(headDim / 4 * blockTokens / 16, (headDim + 15) / 16 * blockTokens / 4)
    guard tiles >= 16 else {
      throw .unsupportedOption(
        codec: description.name,
        option: "head dimension \(headDim) with pages of \(pageTokens) tokens",
        reason: "its chains need sixteen tiles: head dimension times tokens is at least 1024"
      )
    }
  }

  private mutating func codebooks() throws(CodecError) {
    levels = 1 << description.bits
    let first = description.blocks == .channels ? NIBBLE_BLOCKS4 : NIBBLE_COLUMNS4
    layout.kind = Int32(first.rawValue) + 4 - Int32(description.bits)
    rule = NIBBLE_RULE_CODEBOOKS
    layout.fixed_scale = nibble_constant_unit(layout.kind)
    try addScales(zeros: false)
  }

  private var blockTokens: Int { Int(layout.block_tokens) }

  private static func kind(bits: Int) -> Int32 {
    switch bits {
    case 2: Int32(NIBBLE_CODES2.rawValue)
    case 3: Int32(NIBBLE_CODES3.rawValue)
    case 4: Int32(NIBBLE_CODES4.rawValue)
    default: Int32(NIBBLE_INT8.rawValue)
    }
  }

  private mutating func setTable(_ entries: [Int8], unit: Float) {
    withUnsafeMutableBytes(of: &layout.fixed_table) { table in
      for (index, entry) in entries.enumerated() {
        table[index] = UInt8(bitPattern: entry)
      }
    }
    layout.fixed_scale = unit
  }

  // MARK: - Side information

  private mutating func addScales(zeros: Bool) throws(CodecError) {
    switch description.axis {
    case .channel:
      layout.block_tokens = Int32(try tokensOfScale())
      let count = pageTokens / Int(layout.block_tokens) * headDim
      layout.channel_scale = addSide(2 * count, to: \.scales)
      if zeros { layout.channel_zero = addSide(2 * count, to: \.scales) }
    case .token, .none:
      let group = description.group ?? headDim
      try check(group: group)
      layout.group_channels = Int32(group)
      let count = headDim / group * pageTokens
      layout.token_scale = addSide(2 * count, to: \.scales)
      let columns = pageTokens / blockTokens * headDim
      if description.balancesScales { layout.channel_scale = addSide(2 * columns, to: \.scales) }
      if zeros { layout.token_zero = addSide(2 * count, to: \.scales) }
    }
  }

  /// An index of 16 bits and a bfloat16 for each.
  private mutating func addOutliers() {
    guard description.outlierPercent > 0 else { return }
    let values = Double(blockTokens * headDim)
    let count = max(1, Int((values * description.outlierPercent / 100).rounded()))
    layout.outlier_count = Int32(count)
    layout.outliers = addSide(4 * count * (pageTokens / blockTokens), to: \.scales)
  }

  private mutating func addSide(
    _ count: Int,
    to part: WritableKeyPath<StripCodec.Bytes, Int>
  ) -> Int32 {
    let offset = bytes.side
    bytes[keyPath: part] += (count + 3) & ~3
    return Int32(offset)
  }

  /// Tokens that share a channel's scale.
  private func tokensOfScale() throws(CodecError) -> Int {
    let whole = Int(layout.block_tokens)
    let tokens = description.group ?? whole
    guard tokens > 0, tokens <= whole, whole % tokens == 0, tokens % 16 == 0 else {
      throw .unsupportedOption(
        codec: description.name,
        option: "group=\(tokens)",
        reason: "with axis=channel it is a multiple of 16 that divides \(whole) tokens"
      )
    }
    return tokens
  }

  /// A group is whole packing units, so that its codes are a stretch of their own.
  private func check(group: Int) throws(CodecError) {
    if group == headDim { return }
    let tiles = group / 4 * (Int(layout.block_tokens) / 16)
    let unit = description.bits == 3 ? 8 : description.bits == 2 ? 4 : 2
    guard group > 0, group < headDim, headDim % group == 0, group % 16 == 0, tiles % unit == 0
    else {
      throw .unsupportedOption(
        codec: description.name,
        option: "group=\(group)",
        reason: "it is a multiple of 16 that divides the head dimension \(headDim)"
          + (unit > 4 ? "; with 3 bits, group times block tokens is a multiple of 512" : "")
      )
    }
  }

  // MARK: - Options

  private func checkOptions() throws(CodecError) {
    let accepted = CodecDescription.acceptedBits(of: description.code)
    guard accepted.contains(description.bits) else {
      throw .unsupportedBits(
        codec: description.name,
        bits: String(description.bits),
        accepted: accepted
      )
    }
    let plain = CodecDescription(description.code, bits: description.bits)
    let clipsOthers = description.clipsRange && description.code != .linear
    try refuse(
      clipsOthers,
      "clip=search",
      because: "only evenly spaced levels have a range to clip"
    )
    let hasTokenScales = description.axis == .token && !description.isExactRows
    try refuse(
      description.balancesScales && (!hasTokenScales || description.pageCodec != nil),
      "scales=balanced",
      because: "it adds to scales by token, which this codec does not have"
    )
    let hasPercent = (0...CodecDescription.largestOutlierPercent).contains(
      description.outlierPercent
    )
    try refuse(
      description.outlierPercent != 0
        && (!hasPercent || description.isExactRows || description.pageCodec != nil),
      "outliers=\(description.outlierPercent)",
      because: "outliers are 0 to 10 percent beside codes in tiles"
    )
    let choosesOthers = description.blocks != .channels && description.code != .bcq
    try refuse(choosesOthers, "blocks=tokens", because: "it has one table for all values")
    switch description.code {
    case .float32, .float16, .bfloat16:
      try refuse(description != plain, "options", because: "exact rows have none")
    case .rotated:
      try refuse(!description.isRotated, "rotation=none", because: "rotation is what it is")
      try refuse(description.axis != .token, "axis", because: "rotated channels are alike")
      try refuse(description.zeroPoint, "zero_point", because: "its table is symmetric")
    case .trellis:
      try refuse(description.axis != .token, "axis", because: "its chains run across tokens")
      try refuse(description.group != nil, "group", because: "a chain is the whole of a block")
      try refuse(description.zeroPoint, "zero_point", because: "its table is symmetric")
    case .bcq:
      try refuse(description.axis == .none, "axis=none", because: "its codebooks need a scale")
      try refuse(description.zeroPoint, "zero_point", because: "its codebooks lie about zero")
      let crossesBlocks = description.axis == .channel && description.blocks == .channels
      try refuse(crossesBlocks, "axis=channel", because: "its blocks lie in token rows")
    case .clustered:
      try refuse(description.zeroPoint, "zero_point", because: "its table has one")
      try refuse(description.group != nil, "group", because: "its table is fitted to whole rows")
    case .int8, .linear:
      try refuse(description.axis == .none, "axis=none", because: "its levels need a scale")
    case .microscaling, .pyramid, .seeded, .custom:
      let hasScales =
        description.axis != plain.axis || description.group != nil || description.zeroPoint
      try refuse(hasScales, "axis, group or zero_point", because: "its scales are its own affair")
    }
  }

  private func refuse(_ refused: Bool, _ option: String, because reason: String) throws(CodecError)
  {
    if refused {
      throw .unsupportedOption(codec: description.name, option: option, reason: reason)
    }
  }
}
