import Foundation
public import NibbleGenerate

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
  /// Without a file they are `evaluation/stories.json` of the model's directory, or of the embedded model's. A document longer
  /// than the model's context is cut there.
  ///
  /// - Throws: ``EvaluationError``.
  public func documents(for host: HostModel) throws(EvaluationError) -> [[Int]] {
    try checkLimits()
    var documents: [[Int]]
    if let tokens {
      documents = try TokenFile.documents(path: tokens)
    } else {
      let path = try text ?? evaluationFile("stories.json", of: host)
      documents = []
      for text in try TextFile.documents(path: path).prefix(documentLimit ?? .max) {
        documents.append(try host.documentTokens(text))
      }
    }
    let context = host.contextLength ?? .max
    var left = tokenLimit ?? .max
    var result: [[Int]] = []
    for document in documents.prefix(documentLimit ?? .max) where left > 0 {
      let tokens = Array(document.prefix(min(context, left)))
      left -= tokens.count
      result.append(tokens)
    }
    return result
  }

  /// Reads the questions.
  ///
  /// Without a file they are `evaluation/questions.jsonl` of the model's directory, or of the embedded model's; none, if a text
  /// was named.
  ///
  /// - Throws: ``EvaluationError``.
  public func recallQuestions(for host: HostModel) throws(EvaluationError) -> [RecallQuestion] {
    try checkLimits()
    if questions == nil, namesText || questionLimit == 0 { return [] }
    let path = try questions ?? evaluationFile("questions.jsonl", of: host)
    return try QuestionFile.questions(path: path, limit: questionLimit ?? .max, host: host)
  }

  private func checkLimits() throws(EvaluationError) {
    let all = Int.max
    if let documentLimit { try check("the limit of documents", documentLimit, in: 1...all) }
    if let tokenLimit { try check("the limit of text tokens", tokenLimit, in: 1...all) }
    if let questionLimit { try check("the limit of questions", questionLimit, in: 0...all) }
  }

  private func evaluationFile(
    _ name: String,
    of host: HostModel
  ) throws(EvaluationError) -> String {
    let own = host.directory.path + "/evaluation/" + name
    if FileManager.default.fileExists(atPath: own) { return own }
    return try EmbeddedModel.locate() + "/evaluation/" + name
  }
}

/// Texts in a file.
enum TextFile {
  static func documents(path: String) throws(EvaluationError) -> [String] {
    let data = try contents(of: path)
    if path.hasSuffix(".json") {
      return try decode([String].self, data, path: path, expected: "a JSON array of strings")
    }
    guard let text = String(bytes: data, encoding: .utf8) else {
      throw .invalidFile(path: path, line: nil, reason: "the text is not UTF-8")
    }
    return [text]
  }
}

/// Token ids in a file.
enum TokenFile {
  static func documents(path: String) throws(EvaluationError) -> [[Int]] {
    let data = try contents(of: path)
    let tokens = try decode(
      TokenDocuments.self,
      data,
      path: path,
      expected: "a JSON array of integers, or an array of such arrays"
    )
    return tokens.documents
  }
}

/// Questions in a file.
enum QuestionFile {
  static func questions(
    path: String,
    limit: Int,
    host: HostModel
  ) throws(EvaluationError) -> [RecallQuestion] {
    let lines = try contents(of: path).split(
      separator: UInt8(ascii: "\n"),
      omittingEmptySubsequences: false
    )
    var questions: [RecallQuestion] = []
    for (index, line) in lines.enumerated() where questions.count < limit {
      if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") }) { continue }
      let question = try decode(
        WrittenQuestion.self,
        Data(line),
        path: path,
        line: index + 1,
        expected: #"{"prompt": …, "answer": …} with two strings or two arrays of token ids"#
      )
      questions.append(try question.tokens(host: host, path: path, line: index + 1))
    }
    return questions
  }
}

private struct TokenDocuments: Decodable {
  var documents: [[Int]]

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let one = try? container.decode([Int].self) {
      documents = [one]
    } else {
      documents = try container.decode([[Int]].self)
    }
  }
}

private struct WrittenQuestion: Decodable {
  enum Part: Decodable {
    case text(String)
    case tokens([Int])

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let text = try? container.decode(String.self) {
        self = .text(text)
      } else {
        self = .tokens(try container.decode([Int].self))
      }
    }
  }

  var prompt: Part
  var answer: Part

  /// The answer's tokens are those that follow the prompt's in the joint text.
  func tokens(
    host: HostModel,
    path: String,
    line: Int
  ) throws(EvaluationError) -> RecallQuestion {
    switch (prompt, answer) {
    case (.tokens(let prompt), .tokens(let answer)):
      return RecallQuestion(prompt: prompt, answer: answer)
    case (.text(let prompt), .text(let answer)):
      let joint = try host.documentTokens(prompt + answer)
      let alone = try host.documentTokens(prompt)
      // Where the last word of the prompt and the answer share a token, that token belongs to the answer.
      let shared = zip(joint, alone).prefix { $0 == $1 }.count
      return RecallQuestion(prompt: Array(joint[..<shared]), answer: Array(joint[shared...]))
    default:
      throw .invalidFile(
        path: path,
        line: line,
        reason: "prompt and answer must both be strings or both be arrays of token ids"
      )
    }
  }
}

private func contents(of path: String) throws(EvaluationError) -> Data {
  do {
    return try Data(contentsOf: URL(fileURLWithPath: path))
  } catch {
    let exists = FileManager.default.fileExists(atPath: path)
    let reason = exists ? "the system refuses to read it" : "there is no such file"
    throw .unreadable(path: path, reason: reason)
  }
}

private func decode<Value: Decodable>(
  _ type: Value.Type,
  _ data: Data,
  path: String,
  line: Int? = nil,
  expected: String
) throws(EvaluationError) -> Value {
  do {
    return try JSONDecoder().decode(type, from: data)
  } catch {
    throw .invalidFile(path: path, line: line, reason: "expected \(expected)")
  }
}
