import Testing

@testable import NibbleKV

/// Sessions under a calibration: the file names it by its digest, and no other will do.
@Suite struct SessionCalibrationTests {
  private let folder: TemporaryFolder
  private var path: String { folder.file("a.session") }

  init() throws { folder = try TemporaryFolder() }

  static let cases = [
    SessionCase(policy: "k=trellis:3+v=linear:4@k.rotation=aligned"),
    SessionCase(policy: "rotated:3@rotation=aligned@mean=removed@recent=16"),
    SessionCase(policy: "k=rotated:4+v=linear:4@k.shaping=queries@page_tokens=32@recent=40"),
    SessionCase(
      policy: "k=int8+v=linear:4@page_tokens=64@recent=16",
      ages: [(130, "trellis:2@rotation=aligned")]
    ),
  ]

  /// A calibration of the case's model; another number of tokens makes another one.
  private func calibration(_ test: SessionCase, tokens: Int = 100) throws -> Calibration {
    try AlignedTests.calibration(of: test.shape, tokens: tokens)
  }

  private func save(_ test: SessionCase, _ calibration: Calibration) throws -> KVSequence {
    let sequence = try test.cache(calibration: calibration).makeSequence()
    try sequence.append(0..<test.tokens, of: test.rows)
    try sequence.record(tokens: Array(0..<test.tokens).span)
    try sequence.save(to: path)
    return sequence
  }

  /// Why a cache with this calibration refuses the session; "restored" if it does not.
  private func outcome(_ test: SessionCase, _ calibration: Calibration?) throws -> String {
    let cache = try test.cache(calibration: calibration)
    do throws(KVError) {
      _ = try cache.restoreSequence(from: path)
      return "restored"
    } catch {
      guard case .otherPlan = error else { return "another error: \(error)" }
      return "\(error)"
    }
  }

  /// The calibration comes from a file, as in another process.
  @Test(arguments: cases)
  func aRestoredSequenceGoesOnBitForBit(test: SessionCase) throws {
    let calibration = try calibration(test)
    let sequence = try save(test, calibration)
    #expect(sequence.statistics.compressedTokens > 100)
    try calibration.write(to: folder.file("a.calibration"))
    let read = try Calibration(path: folder.file("a.calibration"))
    let restored = try test.cache(calibration: read).restoreSequence(from: path)
    try expectEqual(restored, sequence, goingOnWith: test.rows)
    try restored.save(to: path)
    let again = try test.cache(calibration: read).restoreSequence(from: path)
    try expectEqual(again, sequence, goingOnWith: test.rows)
  }

  @Test(arguments: cases)
  func anotherCalibrationIsRefused(test: SessionCase) throws {
    let calibration = try calibration(test)
    let other = try self.calibration(test, tokens: 101)
    _ = try save(test, calibration)
    #expect(
      try outcome(test, other)
        == "\(path) was saved under another policy: the calibration is "
        + "\(hexadecimal(calibration.digest)); this cache has \(hexadecimal(other.digest))"
    )
    #expect(try outcome(test, calibration) == "restored")
  }

  /// A single bit of the transforms is enough.
  @Test func oneWeightMakesAnotherCalibration() throws {
    let test = Self.cases[0]
    let calibration = try calibration(test)
    _ = try save(test, calibration)
    var heads = calibration.heads
    let last = heads[1][1].values
    var weights = last.weights
    weights[31] = weights[31].nextDown
    heads[1][1].values = try RowTransform(
      headDim: 32,
      mean: last.mean,
      analysis: last.analysis,
      synthesis: last.synthesis,
      weights: weights
    )
    let other = try Calibration(
      fingerprint: calibration.fingerprint,
      heads: heads,
      tokenCount: calibration.tokenCount
    )
    #expect(try outcome(test, other).contains("the calibration is"))
  }

  /// Without codecs that ask for it a calibration is not part of the plan.
  @Test func plansThatUseNoneDoNotCare() throws {
    let test = SessionCase.all[1]
    let sequence = try save(test, try calibration(test))
    #expect(try SessionFile(path: path).index.plan.calibrationDigest == nil)
    #expect(try outcome(test, nil) == "restored")
    let other = try calibration(test, tokens: 101)
    let restored = try test.cache(calibration: other).restoreSequence(from: path)
    try expectEqual(restored, sequence, goingOnWith: test.rows)
  }

  /// A plan that uses one differs from a plan that uses none in more than its codecs.
  @Test func aSessionWithoutCalibrationIsNotOneWithIt() throws {
    let plain = SessionCase(policy: "rotated:3@recent=16")
    let calibrated = SessionCase(policy: "rotated:3@rotation=aligned@recent=16")
    let calibration = try calibration(plain)
    _ = try save(plain, calibration)
    #expect(
      try outcome(calibrated, calibration)
        == "\(path) was saved under another policy: the calibration is none; this cache has "
        + hexadecimal(calibration.digest)
    )
  }
}
