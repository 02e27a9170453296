import Foundation
import NibbleLlama

/// Where the text and the questions of an evaluation come from, and how much of them is used.
public struct EvaluationSources: Hashable, Sendable {
  /// A UTF-8 text, or an array of texts in a `.json` file.
  public var text: String?
  /// Token ids: a JSON array of integers, or an array of arrays.
  public var tokens: String?
  /// JSON lines of `{"prompt", "answer"}`.
  public var questions: String?
  /// Uses the first documents only.
  public var documentLimit: Int?
  /// Uses the first tokens only, over all documents.
  public var tokenLimit: Int?
  /// Uses the first questions only.
  public var questionLimit: Int?

  /// The evaluation text of a model.
  public init(
    text: String? = nil,
    tokens: String? = nil,
    questions: String? = nil,
    documentLimit: Int? = nil,
    tokenLimit: Int? = nil,
    questionLimit: Int? = nil
  ) {
    self.text = text
    self.tokens = tokens
    self.questions = questions
    self.documentLimit = documentLimit
    self.tokenLimit = tokenLimit
    self.questionLimit = questionLimit
  }

  private var namesText: Bool { text != nil || tokens != nil }
}

extension EvaluationSources {
  /// Reads the documents.
  ///
  /// Without a file they are `evaluation/stories.json` of the model's directory, or of the embedded
  /// model's. A document longer than the model's context is cut there.
  ///
  /// - Throws: ``EvaluationError``.
  public func documents(for host: HostModel) throws(EvaluationError) -> [[Int]] {
    try checkLimits()
    var documents: [[Int]]
    if let tokens {
      documents = try TokenFile.documents(path: tokens)
    } else {
      let path = try file(text, orOwn: "stories.json", of: host)
      documents = []
      for text in try TextFile.documents(path: path).prefix(documentLimit ?? .max) {
        documents.append(try host.documentTokens(text))
      }
    }
    let context = host.contextLength ?? .max
    return documents.prefix(documentLimit ?? .max).map { Array($0.prefix(context)) }
      .prefix(tokens: tokenLimit ?? .max)
  }

  /// Reads the questions.
  ///
  /// Without a file they are `evaluation/questions.jsonl` of the model's directory, or of the
  /// embedded model's; none, if a text was named.
  ///
  /// - Throws: ``EvaluationError``.
  public func recallQuestions(for host: HostModel) throws(EvaluationError) -> [RecallQuestion] {
    try checkLimits()
    if questions == nil, namesText || questionLimit == 0 { return [] }
    let path = try file(questions, orOwn: "questions.jsonl", of: host)
    return try QuestionFile.questions(path: path, limit: questionLimit ?? .max, host: host)
  }

  private func checkLimits() throws(EvaluationError) {
    let all = Int.max
    if let documentLimit { try check("the limit of documents", documentLimit, in: 1...all) }
    if let tokenLimit { try check("the limit of text tokens", tokenLimit, in: 1...all) }
    if let questionLimit { try check("the limit of questions", questionLimit, in: 0...all) }
  }

  private func file(
    _ named: String?,
    orOwn name: String,
    of host: HostModel
  ) throws(EvaluationError) -> String {
    if let named { return named }
    let own = host.directory.path + "/evaluation/" + name
    if FileManager.default.fileExists(atPath: own) { return own }
    return try EmbeddedModel.locate() + "/evaluation/" + name
  }
}

extension [[Int]] {
  /// The first documents, as far as they hold so many tokens together; the last one may be cut.
  func prefix(tokens: Int) -> [[Int]] {
    var left = tokens
    var result: [[Int]] = []
    for document in self where left > 0 {
      result.append([Int](document.prefix(left)))
      left -= result[result.count - 1].count
    }
    return result
  }
}
