internal import NibbleCodec

// The literal values of every preset. They change only with a measurement: `nibble tune` spends bits on keys before values
// and on the keys of both ends first, and takes a trellis wherever it may. README.md has what presets lose on two models.
extension Policy {
  /// Everything in float32: what a plain cache holds.
  public static let exact = Policy(
    name: "exact",
    keys: .float32,
    values: .float32,
    exact: .float32
  )

  /// Everything in float16: the usual cache, and the yardstick of every table.
  public static let float16 = Policy(
    name: "float16",
    keys: .float16,
    values: .float16
  )

  /// Keys in eight bits, values in four: hard to tell from exact.
  public static let conservative = Policy(
    name: "conservative",
    keys: .int8,
    values: .trellis(4).centred
  )

  /// Four bits, with eight for the keys of the first and the last layer.
  public static let balanced = Policy(
    name: "balanced",
    keys: .trellis(4).centred,
    values: .trellis(4).centred,
    rules: [Rule(layers: [.first(1), .last(1)], keys: .int8)]
  )

  /// Three bits, with four for the keys of the first and the last layer.
  public static let small = Policy(
    name: "small",
    keys: .trellis(3).centred,
    values: .trellis(3).centred,
    rules: [Rule(layers: [.first(1), .last(1)], keys: .trellis(4).centred)]
  )

  /// Every preset, from the largest to the smallest.
  public static let presets: [Policy] = [.exact, .float16, .conservative, .balanced, .small]

  /// The names of the presets, as they are written in arguments.
  public static let presetNames: [String] = presets.compactMap(\.name)

  /// The preset that says the same as this policy about codecs, whatever the exact windows are, if no file or argument says it.
  var matchingPreset: String? {
    guard marks.file == nil, marks["keys"] == nil else { return nil }
    return equalPreset?.name
  }

  private var equalPreset: Policy? {
    Self.presets.first {
      $0.keys == keys && $0.values == values && $0.rules == rules && $0.exact == exact
    }
  }

  /// Whether `rotated` takes the place of a trellis: in a preset, for heads that have no room for one, so that presets fit every model.
  ///
  /// A policy that says the same is the same, wherever it was read from.
  func replacesTrellis(headDim: Int) -> Bool {
    ages.isEmpty && (keys.code == .trellis || values.code == .trellis)
      && !CodecDescription.hasRoomForChains(channels: headDim, blockTokens: min(pageTokens, 64))
      && equalPreset != nil
  }
}
