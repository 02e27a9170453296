internal import CNibble

/// Works out where a strip's codes, scales and tables lie.
struct StripLayoutBuilder {
  let description: CodecDescription
  let side: KVSide
  let headDim: Int
  let pageTokens: Int
  let transform: RowTransform?

  /// The strip, or its parts in the order of their channels.
  private(set) var parts: [nibble_strip] = []
  private(set) var bytes = StripCodec.Bytes(codes: 0, tables: 0, scales: 0)
  private var layout = nibble_strip()

  init(
    description: CodecDescription,
    side: KVSide,
    headDim: Int,
    pageTokens: Int,
    transform: RowTransform?
  ) {
    self.description = description
    self.side = side
    self.headDim = headDim
    self.pageTokens = pageTokens
    self.transform = transform
    layout.rule = Int32(NIBBLE_RULE_COPY.rawValue)
    layout.row_channels = Int32(headDim)
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
    parts = [layout]
    nibble_strip_measure(&parts, 1)
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
    case .rotated, .trellis: try addScales(zeros: false)
    case .bcq: try codebooks()
    case .microscaling, .pyramid, .seeded, .custom: break
    }
    addOutliers()
    layout.side_bytes = Int32(bytes.side)
    parts = try divided()
    nibble_strip_measure(&parts, Int32(parts.count))
    bytes.codes = parts.reduce(0) { $0 + Int($1.code_bytes) }
  }

  /// Codes of one kind for all channels, or of several with a calibrated transform.
  private func divided() throws(CodecError) -> [nibble_strip] {
    guard description.code == .rotated || description.code == .trellis else { return [layout] }
    guard description.rotation == .aligned else {
      return [try part(BitAllotment.Part(channels: headDim, bits: description.bits))]
    }
    guard let transform else {
      throw .unsupportedOption(
        codec: description.name,
        option: "rotation=aligned",
        reason: "no calibration is given"
      )
    }
    guard transform.headDim == headDim else {
      throw .invalidTransform(reason: "it has \(transform.headDim) channels, not \(headDim)")
    }
    let allotted = BitAllotment.parts(
      bits: description.bits,
      weights: transform.weights,
      step: max(16, (1024 / blockTokens + 15) / 16 * 16),
      distortions: BitAllotment.distortions(of: description.code)
    )
    var parts: [nibble_strip] = []
    for allotment in allotted { parts.append(try part(allotment)) }
    return parts
  }

  // MARK: - Kinds

  private mutating func evenLevels() throws(CodecError) {
    layout.kind = Self.kind(bits: description.bits)
    switch (description.zeroPoint, description.clipsRange) {
    case (true, false): set(NIBBLE_RULE_ZERO_POINT)
    case (true, true): set(NIBBLE_RULE_ZERO_POINT_CLIPPED)
    case (false, false): set(NIBBLE_RULE_SYMMETRIC)
    case (false, true): set(NIBBLE_RULE_SYMMETRIC_CLIPPED)
    }
    let levels = 1 << description.bits
    // With a zero point a code stands for itself; symmetric codes lie about zero.
    let zeroPoint = description.zeroPoint
    if description.bits < 8 {
      let entries = (0..<levels).map { Int8(zeroPoint ? $0 : 2 * $0 - (levels - 1)) }
      Self.setTable(entries, unit: 1, of: &layout)
    }
    try addScales(zeros: zeroPoint)
  }

  private mutating func fittedTable() throws(CodecError) {
    layout.kind = Self.kind(bits: description.bits)
    set(NIBBLE_RULE_FITTED)
    layout.table = addSide(Int(NIBBLE_TABLE_ENTRIES) + 8, to: \.tables)
    if description.axis != .none { try addScales(zeros: false) }
  }

  private mutating func set(_ rule: nibble_rule) {
    layout.rule = Int32(rule.rawValue)
    layout.levels = 1 << Int32(description.bits)
  }

  /// A stretch of rotated channels, or all of them.
  private func part(_ allotment: BitAllotment.Part) throws(CodecError) -> nibble_strip {
    var part = layout
    part.levels = 1 << Int32(allotment.bits)
    part.channels = Int32(allotment.channels)
    if part.channels != part.row_channels { part.group_channels = part.channels }
    part.fits_scales = description.code == .trellis || description.rotation == .aligned ? 1 : 0
    if allotment.bits == 8 {
      part.kind = Int32(NIBBLE_INT8.rawValue)
      part.rule = Int32(NIBBLE_RULE_SYMMETRIC.rawValue)
      part.fixed_scale = BitAllotment.evenUnit
      return part
    }
    guard description.code == .trellis else {
      part.kind = Self.kind(bits: allotment.bits)
      part.rule = Int32(NIBBLE_RULE_FIXED.rawValue)
      let table = LloydMax.table(bits: allotment.bits)
      Self.setTable(table.entries, unit: table.unit, of: &part)
      return part
    }
    // The kinds stand one after the other, from 4 bits down.
    part.kind = Int32(NIBBLE_TRELLIS4.rawValue) + 4 - Int32(allotment.bits)
    part.rule = Int32(NIBBLE_RULE_TRELLIS.rawValue)
    part.fixed_scale = nibble_constant_unit(part.kind)
    try checkChains(channels: allotment.channels)
    return part
  }

  private func checkChains(channels: Int) throws(CodecError) {
    guard CodecDescription.hasRoomForChains(channels: channels, blockTokens: blockTokens) else {
      throw .unsupportedOption(
        codec: description.name,
        option: "head dimension \(headDim) with pages of \(pageTokens) tokens",
        reason: "its chains need sixteen tiles: head dimension times tokens is at least 1024"
      )
    }
  }

  private mutating func codebooks() throws(CodecError) {
    let first = description.blocks == .channels ? NIBBLE_BLOCKS4 : NIBBLE_COLUMNS4
    layout.kind = Int32(first.rawValue) + 4 - Int32(description.bits)
    set(NIBBLE_RULE_CODEBOOKS)
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

  private static func setTable(_ entries: [Int8], unit: Float, of strip: inout nibble_strip) {
    withUnsafeMutableBytes(of: &strip.fixed_table) { table in
      for (index, entry) in entries.enumerated() {
        table[index] = UInt8(bitPattern: entry)
      }
    }
    strip.fixed_scale = unit
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
    try checkAlignment()
    try checkShaping()
    let choosesOthers = description.blocks != .channels && description.code != .bcq
    try refuse(choosesOthers, "blocks=tokens", because: "it has one table for all values")
    switch description.code {
    case .float32, .float16, .bfloat16:
      try refuse(description != plain, "options", because: "exact rows have none")
    case .rotated:
      let isPlain = description.rotation == .none
      try refuse(isPlain, "rotation=none", because: "rotation is what it is")
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

  private func checkAlignment() throws(CodecError) {
    guard description.rotation == .aligned else { return }
    let isPossible = description.code == .rotated || description.code == .trellis
    try refuse(
      !isPossible,
      "rotation=aligned",
      because: "only rotated and trellis have codes of several rates"
    )
    try refuse(
      description.group != nil || description.balancesScales || description.outlierPercent != 0,
      "group, scales or outliers",
      because: "with rotation=aligned its coefficients share one scale"
    )
  }

  private func checkShaping() throws(CodecError) {
    guard description.shapesErrors else { return }
    try refuse(side == .values, "shaping=queries", because: "queries look at keys alone")
    let isScalar = [.int8, .linear, .clustered, .rotated].contains(description.code)
    try refuse(
      !isScalar || description.rotation == .aligned,
      "shaping=queries",
      because: "it is for codes of single values, without rotation=aligned"
    )
    try refuse(
      description.axis == .channel || description.group != nil || description.balancesScales
        || description.outlierPercent != 0,
      "axis, group, scales or outliers",
      because: "with shaping=queries a token has one scale"
    )
    try refuse(transform == nil, "shaping=queries", because: "no calibration is given")
    if let transform, transform.headDim != headDim {
      throw .invalidTransform(reason: "it has \(transform.headDim) channels, not \(headDim)")
    }
  }

  private func refuse(_ refused: Bool, _ option: String, because reason: String) throws(CodecError)
  {
    if refused {
      throw .unsupportedOption(codec: description.name, option: option, reason: reason)
    }
  }
}
