import Foundation
import NibbleFiles
import Synchronization
import Testing

@testable import NibbleKV

/// The session files of Specs/vectors/sessions: each is read as it was written, or refused with its word.
@Suite struct SessionVectorTests {
  static let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent()
    .appendingPathComponent("../../../Specs/vectors/sessions")
    .standardizedFileURL

  struct Expected: Codable {
    var model: Model
    var policy: String
    /// The file of the calibration that the cache has.
    var calibration: String?
    var error: String?
    var generation: Int?
    var tokens: Int?
    var tokenIDs: Int?
    var rows: String?

    enum CodingKeys: String, CodingKey {
      case model, policy, calibration, error, generation, tokens
      case tokenIDs = "token_ids"
      case rows
    }
  }

  struct Model: Codable {
    var layers, queryHeads, kvHeads, headDim: Int
    var windows: [Int]
    var fingerprint: String?

    enum CodingKeys: String, CodingKey {
      case layers
      case queryHeads = "query_heads"
      case kvHeads = "kv_heads"
      case headDim = "head_dim"
      case windows, fingerprint
    }

    init(_ shape: ModelShape) {
      layers = shape.layers
      queryHeads = shape.queryHeads
      kvHeads = shape.kvHeads
      headDim = shape.headDim
      windows = shape.slidingWindows.map { $0 ?? 0 }
      fingerprint = shape.fingerprint
    }

    var shape: ModelShape {
      ModelShape(
        layers: layers,
        queryHeads: queryHeads,
        kvHeads: kvHeads,
        headDim: headDim,
        slidingWindows: windows.map { $0 == 0 ? nil : $0 },
        fingerprint: fingerprint
      )
    }
  }

  struct List: Codable {
    var files: [String: Expected]
  }

  static func list() throws -> List {
    let data = try Data(contentsOf: folder.appendingPathComponent("sessions.json"))
    return try JSONDecoder().decode(List.self, from: data)
  }

  @Test(.enabled(if: !writesVectors))
  func everyFile() throws {
    let files = try Self.list().files
    for (name, expected) in files {
      let found = try Self.read(
        name,
        model: expected.model,
        policy: expected.policy,
        calibration: expected.calibration
      )
      #expect(found.error == expected.error, "\(name)")
      #expect(found.generation == expected.generation, "\(name)")
      #expect(found.tokens == expected.tokens, "\(name)")
      #expect(found.tokenIDs == expected.tokenIDs, "\(name)")
      #expect(found.rows == expected.rows, "\(name)")
    }
    #expect(files.values.filter { $0.error != nil }.count > 20)
    #expect(files.values.filter { $0.error == nil }.count > 6)
  }

  /// Restores a file and decodes all of it.
  static func read(
    _ name: String,
    model: Model,
    policy: String,
    calibration: String? = nil
  ) throws -> Expected {
    var result = Expected(model: model, policy: policy, calibration: calibration)
    let path = folder.appendingPathComponent(name).path
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = try calibration.map {
      try Calibration(path: folder.appendingPathComponent($0).path)
    }
    let cache = try KVCache(
      model: model.shape,
      policy: Policy(yaml: policy),
      threads: 1,
      catalogue: catalogue
    )
    do throws(KVError) {
      let sequence = try cache.restoreSequence(from: path)
      var bytes: [UInt8] = []
      for layer in 0..<model.layers {
        let rows = try sequence.decodedRows(layer: layer)
        for side in [rows.keys, rows.values] { side.withUnsafeBytes { bytes += Array($0) } }
      }
      result.tokens = sequence.tokenCount
      result.tokenIDs = sequence.tokens.count
      result.rows = hexadecimal(digest(of: bytes))
      result.generation = sequence.session.withLock { $0.map { Int($0.superblock.generation) } }
    } catch {
      result.error = error.word
    }
    return result
  }
}

extension KVError {
  /// The word of Specs/session-format.md.
  fileprivate var word: String {
    switch self {
    case .otherModel: "other-model"
    case .otherPlan: "other-plan"
    case .file(.notOfKind): "not-a-session"
    case .file(.unknownVersion): "unknown-version"
    case .file(.truncated): "truncated"
    case .file(.longer): "longer"
    case .file(.damaged): "damaged"
    case .file(.invalidField): "invalid-field"
    default: "\(self)"
    }
  }
}
