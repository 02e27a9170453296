public import Foundation
import NibbleFiles
public import NibbleGenerate

/// A byte-level BPE tokenizer from a `tokenizer.json`, as Llama 3, Qwen and GPT-2 have it.
public struct BytePairTokenizer: TextTokenizer {
  /// Tokens that end a text.
  public let endTokens: Set<Int>
  /// One more than the largest token id.
  public let vocabularySize: Int

  private let model: BytePairModel
  private let normalizer: TextNormalizer
  private let preTokenizer: PreTokenizer
  /// Looked for in the text as it comes.
  private let rawTokens: AddedTokens
  /// Looked for in the normalized text.
  private let normalizedTokens: AddedTokens
  private let addedBytes: [Int: [UInt8]]
  private let template: TextTemplate

  /// Reads a `tokenizer.json`.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - endTokens: Tokens that end a text; the file does not say.
  /// - Throws: ``CheckpointError``.
  public init(path: String, endTokens: Set<Int> = []) throws(CheckpointError) {
    let file = try reading { () throws(FileError) in
      try readJSON(TokenizerFile.self, path: path)
    }
    let name = (path as NSString).lastPathComponent
    try self.init(file: file, name: name, endTokens: endTokens)
  }

  /// Reads the contents of a `tokenizer.json`.
  public init(json: Data, endTokens: Set<Int> = []) throws(CheckpointError) {
    let name = "tokenizer.json"
    let file = try reading { () throws(FileError) in
      try decodeJSON(TokenizerFile.self, from: json, file: name)
    }
    try self.init(file: file, name: name, endTokens: endTokens)
  }

  private init(file: TokenizerFile, name: String, endTokens: Set<Int>) throws(CheckpointError) {
    self.endTokens = endTokens
    model = try BytePairModel(file: file.model, name: name)
    let normalizer = try TextNormalizer(file.normalizer)
    self.normalizer = normalizer
    preTokenizer = try PreTokenizer(file.preTokenizer, file: name)
    template = try TextTemplate(file.postProcessor, file: name)
    try Self.checkDecoder(file.decoder)
    let added = file.addedTokens ?? []
    addedBytes = try Self.bytes(of: added, file: name)
    rawTokens = AddedTokens(added.filter { !($0.isNormalized ?? false) }, normalize: { $0 })
    normalizedTokens = AddedTokens(
      added.filter { $0.isNormalized ?? false },
      normalize: normalizer.normalize
    )
    let largest = max(file.model.vocabulary.values.max() ?? -1, addedBytes.keys.max() ?? -1)
    vocabularySize = largest + 1
  }

  /// Token ids of a text, with the special tokens of the file's template around it.
  ///
  /// Added tokens are recognized wherever the text has them.
  public func encode(_ text: String) -> [Int] {
    encode(text, addingSpecialTokens: true)
  }

  /// Token ids of a text, with or without the special tokens of the file's template around it.
  public func encode(_ text: String, addingSpecialTokens: Bool) -> [Int] {
    var ids: [Int] = []
    // Words repeat; encoding each kind once is most of the speed.
    var known: [[UInt8]: [Int]] = [:]
    for piece in rawTokens.split(text).flatMap(normalized) {
      switch piece {
      case .token(let id):
        ids.append(id)
      case .text(let text):
        for word in preTokenizer.split(text) {
          let bytes = Array(word.utf8)
          let wordIDs = known[bytes] ?? model.encode(bytes)
          known[bytes] = wordIDs
          ids += wordIDs
        }
      }
    }
    return addingSpecialTokens ? template.before + ids + template.after : ids
  }

  /// The UTF-8 bytes that a token stands for; empty for special tokens and unknown ids.
  public func bytes(of id: Int) -> [UInt8] {
    addedBytes[id] ?? model.bytes(of: id) ?? []
  }

  private func normalized(_ piece: AddedTokens.Piece) -> [AddedTokens.Piece] {
    switch piece {
    case .token: [piece]
    case .text(let text): normalizedTokens.split(normalizer.normalize(text))
    }
  }

  /// What added tokens are in a decoded text: special ones are nothing.
  private static func bytes(
    of added: [AddedTokenFile],
    file: String
  ) throws(CheckpointError) -> [Int: [UInt8]] {
    var bytes: [Int: [UInt8]] = [:]
    for token in added {
      guard (0...BytePairModel.largestID).contains(token.id) else {
        throw .invalidTokenizer(
          file: file,
          reason: "added token '\(token.content)' has id \(token.id)"
        )
      }
      bytes[token.id] = token.isSpecial ?? false ? [] : Array(token.content.utf8)
    }
    return bytes
  }

  private static func checkDecoder(_ component: TokenizerComponent?) throws(CheckpointError) {
    guard let component else { return }
    switch component.type {
    case "ByteLevel": return
    case "Sequence": for part in component.parts { try checkDecoder(part) }
    default:
      throw .unsupported(what: "decoder", value: component.type, supported: "ByteLevel")
    }
  }
}

/// The special tokens that go around a text.
struct TextTemplate: Sendable {
  private(set) var before: [Int] = []
  private(set) var after: [Int] = []

  init(_ component: TokenizerComponent?, file: String) throws(CheckpointError) {
    try append(component, file: file)
  }

  private mutating func append(
    _ component: TokenizerComponent?,
    file: String
  ) throws(CheckpointError) {
    guard let component else { return }
    switch component.type {
    case "Sequence":
      for part in component.parts { try append(part, file: file) }
    case "ByteLevel":
      // It moves offsets, not tokens.
      return
    case "TemplateProcessing":
      try appendTemplate(component, file: file)
    default:
      throw .unsupported(
        what: "post-processor",
        value: component.type,
        supported: "ByteLevel, TemplateProcessing"
      )
    }
  }

  private mutating func appendTemplate(
    _ component: TokenizerComponent,
    file: String
  ) throws(CheckpointError) {
    var isAfter = false
    for piece in component.template ?? [] {
      guard let name = piece.specialToken?.id else {
        isAfter = true
        continue
      }
      guard let ids = component.specialTokens?[name]?.ids else {
        throw .invalidTokenizer(file: file, reason: "the template's token '\(name)' has no id")
      }
      if isAfter { after += ids } else { before += ids }
    }
  }
}
