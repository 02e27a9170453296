import Foundation
import NibbleFiles
public import NibbleKV

/// A session file; the names of its JSON fields are fixed by Specs/cli.md.
public struct SessionReport: Encodable, Sendable {
  /// The file, as given.
  public var path: String
  /// Bytes of the file.
  public var bytes: Int
  /// How often it was saved since it was written anew.
  public var generation: Int
  /// Tokens that every layer has.
  public var tokens: Int
  /// Token ids that are known.
  public var tokenIDs: Int
  /// Attention layers.
  public var layers: Int
  /// Query heads of each layer.
  public var queryHeads: Int
  /// KV heads of each layer.
  public var kvHeads: Int
  /// Channels of a head.
  public var headDim: Int
  /// What names the model's weights.
  @NullableText public var fingerprint: String?
  /// Tokens of a page.
  public var pageTokens: Int
  /// Tokens at the start that stay exact.
  public var sinks: Int
  /// Newest tokens that stay exact.
  public var recent: Int
  /// The codecs of the plan.
  public var codecs: [String]
  /// The digest of the calibration in use.
  @NullableText public var calibration: String?
  /// Pages in the file, of all layers.
  public var pages: Int
  /// Bytes of these pages, in the file.
  public var pageBytes: Int
  /// Bytes that belong to earlier saves alone.
  public var unusedBytes: Int
  /// Bytes of a save that was not finished.
  public var unfinishedBytes: Int
  /// The version of the library that wrote it.
  public var libraryVersion: String
  /// The policy, as YAML.
  public var policy: String

  private enum CodingKeys: String, CodingKey {
    case path, bytes, generation, tokens
    case tokenIDs = "token_ids"
    case layers
    case queryHeads = "query_heads"
    case kvHeads = "kv_heads"
    case headDim = "head_dim"
    case fingerprint
    case pageTokens = "page_tokens"
    case sinks, recent, codecs, calibration, pages
    case pageBytes = "page_bytes"
    case unusedBytes = "unused_bytes"
    case unfinishedBytes = "unfinished_bytes"
    case libraryVersion = "library_version"
    case policy
  }

  /// Looks into a file.
  ///
  /// - Throws: `FileError` if it is no session or its index is damaged.
  public init(path: String) throws(FileError) {
    self.init(try SessionFile(path: path))
  }

  init(_ session: SessionFile) {
    let index = session.index
    let stored = index.layers.flatMap(\.storedPages)
    path = session.file.path
    bytes = session.status.byteCount
    generation = Int(session.superblock.generation)
    tokens = index.tokenCount
    tokenIDs = index.tokens.count
    layers = index.shape.layers
    queryHeads = index.shape.queryHeads
    kvHeads = index.shape.kvHeads
    headDim = index.shape.headDim
    fingerprint = index.shape.fingerprint
    pageTokens = index.plan.pageTokens
    sinks = index.plan.sinks
    recent = index.plan.recent
    codecs = index.plan.codecs
    calibration = index.plan.calibrationDigest.map(hexadecimal)
    pages = stored.count
    pageBytes = stored.reduce(0) { $0 + $1.page.storedBytes }
    unusedBytes = session.unusedBytes
    unfinishedBytes = session.unfinishedBytes
    libraryVersion = index.libraryVersion
    policy = index.policy
  }
}

/// A row of `sessions list`.
public struct SessionListRow: Encodable, Sendable {
  /// The file's name.
  public var file: String
  /// Its bytes.
  public var bytes: Int
  /// Tokens that every layer has.
  @Nullable<Int> public var tokens: Int?
  /// How often it was saved since it was written anew.
  @Nullable<Int> public var generation: Int?
  /// What names the model's weights.
  @NullableText public var fingerprint: String?
  /// Why it cannot be read.
  @NullableText public var error: String?

  /// The sessions of a folder, by name: the files that begin as sessions do.
  ///
  /// - Throws: `FileError` if the folder cannot be read.
  public static func rows(folder: String) throws(FileError) -> [SessionListRow] {
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: folder)
    } catch {
      throw .unreadable(path: folder, reason: "it is missing, or is no folder that may be read")
    }
    return names.sorted().compactMap { SessionListRow(folder: folder, file: $0) }
  }

  private init?(folder: String, file: String) {
    let path = "\(folder)/\(file)"
    guard let status = FileStatus(path: path), status.isFile else { return nil }
    self.file = file
    bytes = status.byteCount
    do throws(FileError) {
      let session = try SessionFile(path: path)
      tokens = session.index.tokenCount
      generation = Int(session.superblock.generation)
      fingerprint = session.index.shape.fingerprint
    } catch {
      if case .notOfKind = error { return nil }
      self.error = "\(error)"
    }
  }
}

/// What `sessions verify` found.
public struct SessionVerification: Encodable, Sendable {
  /// The file, as given.
  public var path: String
  /// Pages that were read.
  public var pages: Int
  /// Bytes that were read of them.
  public var pageBytes: Int
  /// What is wrong: one sentence each.
  public var faults: [String]

  private enum CodingKeys: String, CodingKey {
    case path, pages
    case pageBytes = "page_bytes"
    case faults
  }

  /// Reads a session and all of its pages.
  ///
  /// - Throws: `FileError` if it is no session or its index is damaged.
  public init(path: String) throws(FileError) {
    let session = try SessionFile(path: path)
    let report = SessionReport(session)
    self.path = path
    pages = report.pages
    pageBytes = report.pageBytes
    faults = session.faults().map { "\($0)" }
  }
}

/// What `sessions export` wrote.
public struct SessionExport: Encodable, Sendable {
  /// The file that was written.
  public var path: String
  /// Tensors in it.
  public var tensors: Int
  /// Tokens of the session.
  public var tokens: Int

  /// Writes a session's rows, as attention sees them, to a safetensors file.
  ///
  /// - Parameters:
  ///   - session: The session's path.
  ///   - path: The file to write.
  ///   - catalogue: With the calibration, if the session's policy uses one.
  /// - Throws: `FileError`, `PolicyError` or `KVError`.
  public init(session: String, to path: String, catalogue: CodecCatalogue = .standard) throws {
    let file = try SessionFile(path: session)
    let index = file.index
    let policy = try Policy(yaml: index.policy, file: session, catalogue: catalogue)
    let cache = try KVCache(
      model: index.shape,
      policy: policy,
      threads: 1,
      catalogue: catalogue
    )
    let sequence = try cache.restoreSequence(from: session)
    try Self.checkLength(of: file)
    var entries = [
      SafetensorsFile.Entry(name: "token_ids", element: .int32, shape: [index.tokens.count])
    ]
    for (number, layer) in index.layers.enumerated() {
      let shape = [layer.tokenCount, index.shape.kvHeads, index.shape.headDim]
      for side in KVSide.allCases {
        let name = "layers.\(number).\(side.rawValue)"
        entries.append(SafetensorsFile.Entry(name: name, element: .float32, shape: shape))
      }
    }
    var words = ["format": "nibblekv-rows", "version": "1", "tokens": "\(index.tokenCount)"]
    words["fingerprint"] = index.shape.fingerprint
    let writer = try SafetensorsWriter(path: path, tensors: entries, metadata: words)
    try writer.append(index.tokens)
    for layer in index.layers.indices {
      let rows = try sequence.decodedRows(layer: layer)
      try writer.append(rows.keys)
      try writer.append(rows.values)
    }
    try writer.finish()
    self.path = path
    tensors = entries.count
    tokens = index.tokenCount
  }

  /// Rows that were dropped are zeros; a file may promise any number of them.
  private static func checkLength(of session: SessionFile) throws(FileError) {
    let row = session.index.shape.kvHeads * session.index.shape.headDim * 4
    let limit = max(1 << 30, 64 * session.status.byteCount)
    for (layer, held) in session.index.layers.enumerated() where held.tokenCount * row > limit {
      throw .tooLong(
        file: session.file.path,
        what: "a tensor of layer \(layer)",
        byteCount: UInt64(held.tokenCount * row),
        limit: UInt64(limit)
      )
    }
  }
}
