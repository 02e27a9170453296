internal import Crypto
import NibbleCodec
import NibblePolicy

extension SessionIndex.Plan {
  /// A cache's plan as a file has it.
  init(_ cache: KVCache) {
    let plan = cache.plan
    var numbers: [String: Int] = [:]
    var codecs: [String] = []
    func number(_ codec: CodecDescription) -> Int {
      let text = codec.description
      if let known = numbers[text] { return known }
      numbers[text] = codecs.count
      codecs.append(text)
      return codecs.count - 1
    }
    exactRows = number(plan.policy.exact)
    rungs = plan.layers.map { layer in
      layer.rungs.map { rung in
        Rung(
          beyond: rung.beyond,
          strips: (rung.keys + rung.values).map { UInt16(number($0.description)) }
        )
      }
    }
    self.codecs = codecs
    pageTokens = plan.policy.pageTokens
    sinks = plan.policy.sinks
    recent = plan.policy.recent
    sinkPageTokens = plan.sinkPageTokens
    hasSummaries = plan.policy.skipBelow > 0
    calibrationDigest = cache.calibrationDigest
  }
}

extension SessionIndex.Layer.PageBytes {
  init(_ layer: Plan.Layer) {
    self.init(
      sealed: layer.rungs.map(\.pageLayout.byteCount),
      exact: layer.exactLayout.byteCount,
      sink: layer.sinkLayout.byteCount
    )
  }
}

extension SessionIndex {
  /// Throws unless a cache has the model and the plan that the session was saved with.
  func check(against cache: KVCache, file: String) throws(KVError) {
    for (field, found, expected) in differences(of: shape, cache.shape) {
      throw .otherModel(file: file, field: field, found: found, expected: expected)
    }
    let other = Plan(cache)
    for (field, found, expected) in differences(of: plan, other) {
      throw .otherPlan(file: file, field: field, found: found, expected: expected)
    }
    for layer in layers.indices {
      let found = layers[layer].pageBytes
      let expected = Layer.PageBytes(cache.plan.layers[layer])
      guard found == expected else {
        throw .otherPlan(
          file: file,
          field: "bytes of pages of layer \(layer)",
          found: "\(found.sealed + [found.exact, found.sink])",
          expected: "\(expected.sealed + [expected.exact, expected.sink])"
        )
      }
    }
  }

  private typealias Difference = (field: String, found: String, expected: String)

  private func differences(of found: ModelShape, _ expected: ModelShape) -> [Difference] {
    func text(_ fingerprint: String?) -> String { fingerprint.map { "'\($0)'" } ?? "none" }
    func text(_ windows: [Int?]) -> String { "\(windows.map { $0 ?? 0 })" }
    let fields: [Difference] = [
      ("the fingerprint", text(found.fingerprint), text(expected.fingerprint)),
      ("the number of layers", "\(found.layers)", "\(expected.layers)"),
      ("the number of query heads", "\(found.queryHeads)", "\(expected.queryHeads)"),
      ("the number of KV heads", "\(found.kvHeads)", "\(expected.kvHeads)"),
      ("the head dimension", "\(found.headDim)", "\(expected.headDim)"),
      ("the list of sliding windows", text(found.slidingWindows), text(expected.slidingWindows)),
    ]
    return fields.filter { $0.found != $0.expected }
  }

  /// The shapes are known to be equal.
  private func differences(of found: Plan, _ expected: Plan) -> [Difference] {
    func text(_ digest: [UInt8]?) -> String { digest.map(hexadecimal) ?? "none" }
    var fields: [Difference] = [
      ("page_tokens", "\(found.pageTokens)", "\(expected.pageTokens)"),
      ("sinks", "\(found.sinks)", "\(expected.sinks)"),
      ("recent", "\(found.recent)", "\(expected.recent)"),
      ("the length of the sink page", "\(found.sinkPageTokens)", "\(expected.sinkPageTokens)"),
      ("exact_rows", found.codecs[found.exactRows], expected.codecs[expected.exactRows]),
      ("whether pages have summaries", "\(found.hasSummaries)", "\(expected.hasSummaries)"),
      ("the calibration", text(found.calibrationDigest), text(expected.calibrationDigest)),
    ]
    for layer in found.rungs.indices {
      fields += differences(ofLayer: layer, found, expected)
    }
    return fields.filter { $0.found != $0.expected }
  }
}

extension SessionIndex {
  private func differences(ofLayer layer: Int, _ found: Plan, _ expected: Plan) -> [Difference] {
    let (a, b) = (found.rungs[layer], expected.rungs[layer])
    var fields: [Difference] = [
      ("the list of ages of layer \(layer)", "\(a.map(\.beyond))", "\(b.map(\.beyond))")
    ]
    for (number, (old, new)) in zip(a, b).enumerated() {
      for (strip, codecs) in zip(old.strips, new.strips).enumerated() {
        let side = strip < shape.kvHeads ? "keys" : "values"
        let age = number == 0 ? "" : " at age \(number)"
        let place = "the codec of layer \(layer), KV head \(strip % shape.kvHeads), \(side)\(age)"
        fields.append((place, found.codecs[Int(codecs.0)], expected.codecs[Int(codecs.1)]))
      }
    }
    return fields.filter { $0.found != $0.expected }
  }
}

/// Digits as people compare them.
package func hexadecimal(_ bytes: [UInt8]) -> String {
  bytes.map { byte in
    let text = String(byte, radix: 16)
    return byte < 16 ? "0" + text : text
  }.joined()
}

extension Calibration {
  /// The SHA-256 of the transforms, in the order in which a calibration's file has them.
  package var digest: [UInt8] {
    var hash = SHA256()
    for layer in heads {
      for side in KVSide.allCases {
        let transforms = layer.map { side == .keys ? $0.keys : $0.values }
        for part in [\RowTransform.mean, \.analysis, \.synthesis, \.weights] {
          for transform in transforms {
            // Little-endian, as every machine that this library runs on.
            transform[keyPath: part].withUnsafeBytes { hash.update(bufferPointer: $0) }
          }
        }
      }
    }
    return Array(hash.finalize())
  }
}
