import NibbleKV

/// The native format that is nearest to the codecs of one layer, and what differs.
///
/// Affine caches have one number of bits for keys and values. TurboQuant rotates rows, and has bits of its own for each side. So codes without a rotation
/// become affine, and TurboQuant takes rotated ones, and those of two sides with different bits.
struct NativeChoice {
  static let affineBits = [2, 3, 4, 5, 6, 8]
  static let groupSizes = [128, 64, 32]
  static let turboKeyBits = [2, 3, 4, 8]
  static let turboValueBits = [2, 3, 4]

  let format: NativeFormat
  private(set) var reasons: [String] = []
  /// Whether the policy asks for rows as they are on both sides.
  let wantsExactRows: Bool

  init(keys: WantedCodec, values: WantedCodec, headDim: Int, usesTurboQuant: Bool) {
    let groupSize = Self.groupSize(for: [keys, values], headDim: headDim)
    wantsExactRows = keys.codec.isExactRows && values.codec.isExactRows
    if wantsExactRows {
      format = .fullPrecision
      let isWide = [keys, values].contains { $0.codec == .float32 }
      reasons = isWide ? ["float32 rows stay in the model's own type"] : []
    } else if usesTurboQuant,
      let turbo = Self.turboQuant(keys: keys, values: values, groupSize: groupSize)
    {
      format = turbo
    } else if keys.codec.isExactRows || values.codec.isExactRows {
      format = .fullPrecision
      reasons = ["no native cache has rows as they are beside codes like these"]
    } else if let groupSize {
      format = .affine(
        bits: Self.nearest(max(keys.bits, values.bits), of: Self.affineBits),
        groupSize: groupSize
      )
    } else {
      format = .fullPrecision
      reasons = ["affine caches need a head dimension that is a multiple of 32, not \(headDim)"]
    }
    if format.isCompressed {
      reasons += difference(of: keys, headDim: headDim) + difference(of: values, headDim: headDim)
    }
  }

  /// TurboQuant, where it is nearer than one number of affine bits is.
  private static func turboQuant(
    keys: WantedCodec,
    values: WantedCodec,
    groupSize: Int?
  ) -> NativeFormat? {
    let isRotated = [keys, values].contains { $0.codec.code == .rotated }
    guard isRotated || keys.codec.isExactRows || keys.bits != values.bits else { return nil }
    guard !values.codec.isExactRows, values.bits <= 4 else { return nil }
    let keyBits = keys.codec.isExactRows ? 0 : nearest(keys.bits, of: turboKeyBits)
    let hasAffineKeys = keyBits == 8
    guard !hasAffineKeys || groupSize != nil else { return nil }
    return .turboQuant(
      keyBits: keyBits,
      valueBits: nearest(values.bits, of: turboValueBits),
      keyGroupSize: groupSize ?? 64
    )
  }

  /// The largest group that divides the head and is no larger than those of the codecs; else the smallest that divides it.
  private static func groupSize(for wanted: [WantedCodec], headDim: Int) -> Int? {
    let possible = groupSizes.filter { headDim.isMultiple(of: $0) }
    let limit = wanted.map { $0.codec.group ?? headDim }.min() ?? headDim
    return possible.first { $0 <= limit } ?? possible.last
  }

  /// The fewest bits of a list that are no fewer than asked for, or the most that there are.
  private static func nearest(_ bits: Int, of list: [Int]) -> Int {
    list.first { $0 >= bits } ?? list[list.count - 1]
  }

  // MARK: - What differs

  private func difference(of wanted: WantedCodec, headDim: Int) -> [String] {
    let side = wanted.side == .keys ? "keys" : "values"
    let (bits, isAffine, groupSize) = stored(wanted.side)
    guard bits > 0 else { return [] }
    let codec = wanted.codec
    var reasons: [String] = []
    if !(isAffine ? isEvenlySpaced(codec) : false) {
      let name = isAffine ? "affine codes" : "TurboQuant"
      reasons.append("\(side) in \(codec.shortName) become \(name) of \(bits) bits")
    } else if wanted.bits != bits {
      reasons.append("\(side) get \(bits) bits instead of \(wanted.bits)")
    }
    if isAffine, isEvenlySpaced(codec) {
      let wantedGroup = codec.group ?? headDim
      if codec.axis != .token || wantedGroup != groupSize {
        reasons.append("\(side) have a scale for each \(groupSize) channels of a token")
      }
    }
    let lost = lostOptions(of: codec)
    if !lost.isEmpty { reasons.append("\(side) lose \(lost.joined(separator: ", "))") }
    return reasons
  }

  /// Bits of a side, whether they are affine, and their group.
  private func stored(_ side: KVSide) -> (bits: Int, isAffine: Bool, groupSize: Int) {
    switch format {
    case .affine(let bits, let groupSize): (bits, true, groupSize)
    case .turboQuant(let keyBits, let valueBits, let groupSize):
      side == .keys ? (keyBits, keyBits == 8, groupSize) : (valueBits, false, 0)
    case .fullPrecision, .rotating, .other: (0, false, 0)
    }
  }

  private func isEvenlySpaced(_ codec: CodecDescription) -> Bool {
    codec.code == .linear || codec.code == .int8
  }

  /// Modifiers that no native cache has.
  private func lostOptions(of codec: CodecDescription) -> [String] {
    var lost: [String] = []
    if codec.removesMean { lost.append("mean removal") }
    if codec.outlierPercent > 0 { lost.append("outliers") }
    if codec.balancesScales { lost.append("balanced scales") }
    if codec.clipsRange { lost.append("the search for ranges") }
    if codec.shapesErrors { lost.append("shaping by queries") }
    if codec.rotation == .aligned { lost.append("the calibrated rotation") }
    if codec.rotation == .hadamard, codec.code != .rotated, codec.code != .trellis {
      lost.append("the rotation")
    }
    return lost
  }
}
