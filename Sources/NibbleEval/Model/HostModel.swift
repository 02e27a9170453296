import Foundation
import NibbleGenerate
public import NibbleLlama

/// A model directory, loaded: the model, its tokenizer, and what a document looks like to it.
public struct HostModel: Sendable {
  /// The directory.
  public let directory: ModelDirectory
  /// The model.
  public let model: LlamaModel
  /// The tokenizer; `nil` if the directory has none.
  public let tokenizer: BytePairTokenizer?
  /// The token that stands before every document; `nil` if the configuration names none.
  public let beginToken: Int?

  /// Loads a model.
  ///
  /// - Parameter path: A Hugging Face directory; `nil` takes the embedded model.
  /// - Throws: ``EvaluationError/embeddedModelNotFound(searched:)`` or `CheckpointError`.
  public init(path: String?) throws {
    directory = ModelDirectory(path: try path ?? EmbeddedModel.locate())
    model = try LlamaModel(directory: directory)
    let hasTokenizer = FileManager.default.fileExists(atPath: directory.path + "/tokenizer.json")
    tokenizer = hasTokenizer ? try directory.tokenizer() : nil
    let vocabulary = 0..<model.vocabularySize
    beginToken = Self.beginToken(of: directory).flatMap { vocabulary.contains($0) ? $0 : nil }
  }

  /// The most tokens of a document: those that the model was trained for.
  public var contextLength: Int? { model.configuration.contextLength }

  /// The tokenizer.
  ///
  /// - Throws: ``EvaluationError/tokenizerNeeded(model:)``.
  public func requireTokenizer() throws(EvaluationError) -> BytePairTokenizer {
    guard let tokenizer else { throw .tokenizerNeeded(model: model.name) }
    return tokenizer
  }

  /// The tokens of a text, with the token that begins a document before them.
  ///
  /// - Throws: ``EvaluationError/tokenizerNeeded(model:)``.
  public func documentTokens(_ text: String) throws(EvaluationError) -> [Int] {
    let tokens = try requireTokenizer().encode(text)
    guard let beginToken, tokens.first != beginToken else { return tokens }
    return [beginToken] + tokens
  }

  private static func beginToken(of directory: ModelDirectory) -> Int? {
    // The file has been read and checked by now; a model without this key has no such token.
    guard
      let data = FileManager.default.contents(atPath: directory.path + "/config.json"),
      let values = try? JSONDecoder().decode(BeginToken.self, from: data)
    else { return nil }
    return values.id
  }
}

private struct BeginToken: Decodable {
  var id: Int?

  private enum CodingKeys: String, CodingKey { case id = "bos_token_id" }
}
