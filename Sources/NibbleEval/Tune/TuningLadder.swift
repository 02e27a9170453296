public import NibbleKV

/// The codecs that a tuner chooses from.
public struct TuningLadder: Hashable, Sendable {
  /// What keys may be encoded with.
  public var keys: [CodecDescription]
  /// What values may be encoded with.
  public var values: [CodecDescription]

  /// Creates a ladder; the order does not matter.
  public init(keys: [CodecDescription], values: [CodecDescription]) {
    self.keys = keys
    self.values = values
  }

  /// The codes that lose least at their bits, with and without mean removal, and with calibrated transforms where there are any.
  ///
  /// - Parameter isCalibrated: Whether a calibration of the model is given.
  /// - Returns: The ladder; some of its codecs may not fit a model.
  public static func standard(isCalibrated: Bool) -> TuningLadder {
    let codes: [CodecDescription] =
      (1...4).map { .trellis($0) } + (2...4).map { .bcq($0) } + [.rotated(4), .int8, .float16]
    return TuningLadder(keys: codes, values: codes).withVariants(isCalibrated: isCalibrated)
  }

  /// The ladder of some policies' codecs, each side's as written.
  ///
  /// - Parameter policies: Their rules, ages and windows are left aside.
  public init(_ policies: [Policy]) {
    self.init(keys: distinct(policies.map(\.keys)), values: distinct(policies.map(\.values)))
  }

  /// Every codec with the mean removed too, and with a calibrated transform where it takes one.
  private func withVariants(isCalibrated: Bool) -> TuningLadder {
    func variants(_ codec: CodecDescription) -> [CodecDescription] {
      guard !codec.isExactRows, codec.code != .int8 else { return [codec] }
      var variants = [codec, codec.centred]
      // A calibrated transform has a mean of its own.
      if isCalibrated, codec.code == .trellis { variants.append(codec.aligned) }
      return variants
    }
    return TuningLadder(keys: keys.flatMap(variants), values: values.flatMap(variants))
  }

  subscript(side: KVSide) -> [CodecDescription] {
    side == .keys ? keys : values
  }
}

/// A codec on a unit's ladder.
struct TuningRung: Hashable, Sendable {
  var codec: CodecDescription
  /// Bits per value of a strip, with everything that is stored in it.
  var bitsPerValue: Double
  /// The squared error of attention's outputs over the power of the layer's, when it encodes the unit alone.
  var attentionError: Double
}

extension [TuningRung] {
  /// The rungs on the lower hull of attention error against bits, as far as they are of use for a budget.
  ///
  /// - Parameter budget: Bits per value on average.
  /// - Returns: These rungs, from the fewest bits to the most.
  func useful(budget: Double) -> [TuningRung] {
    let hull = lowerHull(map { AllotmentChoice(cost: $0.bitsPerValue, loss: $0.attentionError) })
      .map { self[$0] }
    let near = hull.filter { (-2.5...5.5).contains($0.bitsPerValue - budget) }
    // The cheapest rung must be there for a budget below all of them, the dearest for one above.
    return near.isEmpty ? hull : near
  }
}
