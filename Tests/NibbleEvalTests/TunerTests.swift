import Foundation
import NibbleGenerate
import NibbleKV
import Synchronization
import Testing

@testable import NibbleEval

/// Tuning of a tiny model, whose logits depend on everything in its cache.
@Suite struct TunerTests {
  private static let codecs: [CodecDescription] = [.linear(2), .linear(3), .linear(4), .int8]

  private static func tuner(
    _ budget: TuningBudget = .bitsPerValue(5.5),
    model: any DecoderModel = TinyModel()
  ) throws -> PolicyTuner {
    let documents = (1...6).map { TinyModel.document(160, seed: $0) }
    var tuner = PolicyTuner(
      model: model,
      budget: budget,
      text: TuningText(documents, tokens: 320, seed: 1)
    )
    tuner.ladder = TuningLadder(keys: codecs, values: codecs)
    tuner.start = try Policy(argument: "float16@page_tokens=16@recent=16")
    tuner.context = 1_024
    tuner.threads = 1
    return tuner
  }

  static let outcome = Result { try tuner().run() }

  @Test func theBudgetHolds() throws {
    for budget in [TuningBudget.bitsPerValue(5.5), .share(0.4), .bytes(60 << 20, context: 1 << 20)]
    {
      let report = try Self.tuner(budget).run().report
      #expect(report.tuned.totalBytes <= report.limitBytes)
      // What is left would not take one more bit for one unit in four.
      #expect(Double(report.tuned.totalBytes) > 0.85 * Double(report.limitBytes), "\(budget)")
    }
    let bits = try Self.outcome.get().report.tuned.bitsPerValue
    #expect(bits <= 5.501 && bits > 5.2)
  }

  @Test func everyUnitIsMeasuredOnItsLadder() throws {
    let report = try Self.outcome.get().report
    #expect(report.units.map(\.layer) == [0, 0, 1, 1])
    #expect(report.units.map(\.side) == ["keys", "values", "keys", "values"])
    for unit in report.units {
      let bits = unit.rungs.map(\.bitsPerValue)
      #expect(bits == bits.sorted() && bits.count >= 2)
      #expect(
        unit.rungs.contains { $0.codec == unit.codec && $0.bitsPerValue == unit.bitsPerValue }
      )
      #expect(unit.rungs.allSatisfy { $0.loss > 0 })
      #expect(try #require(unit.rungs.last).loss < unit.rungs[0].loss)
    }
    // A unit alone loses what a policy with nothing else loses.
    let unit = try #require(report.units.first)
    let alone = Policy.float16.alone(
      TuningUnit(layer: 0, heads: 0..<1, side: .keys),
      .linear(2),
      shape: TinyModel().shape
    )
    var policy = alone
    (policy.pageTokens, policy.recent) = (16, 16)
    let tuner = try Self.tuner()
    let result = try QualityEvaluation(model: TinyModel(), policies: [policy], threads: 1)
      .run(documents: tuner.text.tuning)
    let rung = try #require(unit.rungs.first { $0.codec == "linear:2" })
    let own = try #require(result[0].divergence?.mean)
    #expect(abs(rung.loss - own) < 1e-9 * own)
  }

  @Test func theTunedPolicyBeatsUniformOnes() throws {
    let report = try Self.outcome.get().report
    let uniform = try #require(report.bestUniform)
    #expect(uniform.totalBytes <= report.limitBytes)
    #expect(report.tuned.loss < uniform.loss)
    #expect(report.rows.contains(uniform))
    #expect(report.tuned == report.rows[0] && report.tuned.positions > 0)
    #expect(
      report.lossPredicted > 0.3 * report.tuned.loss && report.lossPredicted < 3 * report.tuned.loss
    )
  }

  @Test func theFileIsThePolicy() throws {
    let outcome = try Self.outcome.get()
    let text = outcome.yaml
    let path = NSTemporaryDirectory() + "tuned-\(UUID().uuidString).yaml"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try outcome.write(to: path)
    let read = try Policy(argument: path)
    #expect(read.yaml == outcome.policy.yaml)
    let plan = try Plan(policy: read, shape: TinyModel().shape)
    for (unit, entry) in zip(outcome.report.units, plan.entries) {
      #expect("\(entry.codec)" == unit.codec && entry.layer == unit.layer)
    }
    // The evidence stands in comments.
    #expect(text.hasPrefix("# Chosen by nibble"))
    #expect(outcome.report.findings.allSatisfy { text.contains("# \($0)\n") })
  }

  @Test func equalSeedsGiveEqualOutcomes() throws {
    let first = try JSONReport.text(Self.outcome.get().report)
    #expect(try JSONReport.text(Self.tuner().run().report) == first)
  }

  /// A run that ends in the midst goes on where it was, and ends as if it had not been cut off.
  @Test(arguments: [30, 130, 230])
  func aRunThatIsCutOffGoesOn(limit: Int) throws {
    let path = NSTemporaryDirectory() + "record-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    func tuner(_ model: CountedModel) throws -> PolicyTuner {
      var tuner = try Self.tuner(model: model)
      tuner.recordPath = path
      return tuner
    }
    let whole = CountedModel()
    let expected = try Self.tuner(model: whole).run()
    let cut = CountedModel(limit: limit)
    #expect(throws: CountedModel.Ended.self) { try tuner(cut).run() }
    let rest = CountedModel()
    let outcome = try tuner(rest).run()
    #expect(outcome.yaml == expected.yaml)
    #expect(try JSONReport.text(outcome.report) == JSONReport.text(expected.report))
    // Whatever was finished is not done again; what was cut off is done once more.
    #expect(rest.forwards < whole.forwards)
    #expect(rest.forwards + limit >= whole.forwards)
    // Another budget needs no unit again.
    let other = CountedModel()
    var next = try tuner(other)
    next.budget = .bitsPerValue(4)
    _ = try next.run()
    #expect(other.forwards < whole.forwards)
  }

  @Test func aRecordOfSomethingElseIsNotUsed() throws {
    let path = NSTemporaryDirectory() + "record-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: path) }
    var first = try Self.tuner(model: TinyModel(seed: 9))
    first.text = TuningText([TinyModel.document(400, seed: 3)], tokens: 400, seed: 1)
    first.recordPath = path
    _ = try first.run()
    var second = try Self.tuner()
    second.recordPath = path
    #expect(try second.run().yaml == Self.outcome.get().yaml)
    try Data("{".utf8).write(to: URL(fileURLWithPath: path))
    #expect(try second.run().yaml == Self.outcome.get().yaml)
  }

  @Test func hostsWithoutLogitsGetTheErrorOfAttention() throws {
    var tuner = try Self.tuner(model: SilentModel())
    #expect(tuner.measure == nil)
    let outcome = try tuner.run()
    #expect(outcome.report.measure == .attention)
    #expect(outcome.report.windows.isEmpty)
    let uniform = try #require(outcome.report.bestUniform)
    #expect(outcome.report.tuned.loss > 0 && outcome.report.tuned.loss <= uniform.loss)
    // Errors are taken behind exact layers, so those of keys and values add up nearly.
    let ratio = outcome.report.lossPredicted / outcome.report.tuned.loss
    #expect(abs(ratio - 1) < 0.3)
    tuner.measure = .attention
    #expect(try tuner.run().yaml == outcome.yaml)
  }

  @Test func aModelThatLosesTooMuchIsNamed() throws {
    var tuner = try Self.tuner()
    tuner.leastSameTop1 = 1
    let findings = try tuner.run().report.findings
    #expect(findings.contains { $0.contains("should not be compressed that far") })
    tuner.leastSameTop1 = 0
    #expect(try !tuner.run().report.findings.contains { $0.contains("that far") })
  }

  @Test func whatCannotBeTunedIsRefused() throws {
    func expect(_ part: String, _ change: (inout PolicyTuner) -> Void) throws {
      var tuner = try Self.tuner()
      change(&tuner)
      let error = #expect(throws: (any Error).self) { try tuner.run() }
      #expect("\(try #require(error))".contains(part), "\(part)")
    }
    try expect("expected at least") { $0.budget = .bitsPerValue(1) }
    try expect("at least two documents") { $0.text = TuningText([], tokens: 10, seed: 1) }
    try expect("too short") { $0.text = TuningText(tuning: [[1, 2]], check: [[1, 2]]) }
    try expect("0.0 to 1.0") { $0.leastSameTop1 = 1.5 }
    try expect("aligned") { $0.ladder?.keys.append(.trellis(2).aligned) }
    try expect("cannot write") { $0.recordPath = "/no/such/folder/record" }
  }

  @Test func textIsPartedByDocuments() {
    let documents = (0..<9).map { Array(repeating: $0, count: 100) }
    let text = TuningText(documents, tokens: 1_000, seed: 1)
    #expect(text.tuning.count == 3 && text.check.count == 6)
    #expect(Set(text.tuning.joined()).isDisjoint(with: Set(text.check.joined())))
    #expect(text != TuningText(documents, tokens: 1_000, seed: 2))
    #expect(text == TuningText(documents, tokens: 1_000, seed: 1))
    let short = TuningText(documents, tokens: 50, seed: 1)
    #expect(short.tuning.joined().count == 50 && short.check.joined().count == 100)
    let single = TuningText([Array(0..<90)], tokens: 1_000, seed: 1)
    #expect(single.tuning == [Array(0..<30)] && single.check == [Array(30..<90)])
  }
}

@Suite struct TunedPolicyTests {
  /// Whatever codecs units get, the policy's plan has them.
  @Test(arguments: 1...20 as ClosedRange<UInt64>)
  func rulesSayWhatUnitsGet(seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let shape = ModelShape(layers: 7, queryHeads: 8, kvHeads: 4, headDim: 64)
    let grouping: PolicyTuner.Grouping = seed.isMultiple(of: 2) ? .heads : .layers
    let units = TuningUnit.all(of: shape, grouping: grouping)
    let choices: [CodecDescription] = [.int8, .rotated(3), .trellis(2).centred, .linear(4)]
    let codecs = Dictionary(
      uniqueKeysWithValues: units.map { ($0, choices.randomElement(using: &generator) ?? .int8) }
    )
    let plan = try Plan(policy: Policy.float16.with(codecs, shape: shape), shape: shape)
    for (unit, codec) in codecs {
      for head in unit.heads {
        #expect(plan.entry(layer: unit.layer, head: head, side: unit.side).codec == codec)
      }
    }
  }
}

/// A tiny model that counts how often it runs, and ends after some times.
private final class CountedModel: DecoderModel {
  struct Ended: Error {}

  private let model = TinyModel()
  private let limit: Int
  private let count = Mutex(0)

  init(limit: Int = .max) {
    self.limit = limit
  }

  var shape: ModelShape { model.shape }
  var vocabularySize: Int { model.vocabularySize }
  var name: String { model.name }
  var forwards: Int { count.withLock { $0 } }

  func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits: LogitsRequest
  ) throws -> [Float] {
    let number = count.withLock {
      $0 += 1
      return $0
    }
    if number > limit { throw Ended() }
    return try model.forward(tokens: tokens, store: store, logits: logits)
  }
}

/// A model that has no logits to give.
private struct SilentModel: DecoderModel {
  private let model = TinyModel()

  var shape: ModelShape { model.shape }
  var vocabularySize: Int { 0 }
  var name: String { model.name }

  func forward(
    tokens: [Int],
    store: some KeyValueStore,
    logits: LogitsRequest
  ) throws -> [Float] {
    _ = try model.forward(tokens: tokens, store: store, logits: .none)
    return []
  }
}
