import Foundation

/// Texts in a file.
enum TextFile {
  static func documents(path: String) throws(EvaluationError) -> [String] {
    guard path.hasSuffix(".json") else { return [try PromptFile.text(path: path)] }
    let data = try contents(of: path)
    return try decode([String].self, data, path: path, expected: "a JSON array of strings")
  }
}

/// A prompt in a file.
public enum PromptFile {
  /// Reads UTF-8 text.
  ///
  /// - Throws: ``EvaluationError``.
  public static func text(path: String) throws(EvaluationError) -> String {
    guard let text = String(bytes: try contents(of: path), encoding: .utf8) else {
      throw .invalidFile(path: path, line: nil, reason: "the text is not UTF-8")
    }
    return text
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
      // Where the last word of the prompt and the answer share a token, that token belongs to the
      // answer.
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

/// Writes a text file, whole or not at all.
func writeText(_ text: String, to path: String) throws(EvaluationError) {
  do {
    try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
  } catch {
    throw .unwritable(path: path, reason: "the system refused")
  }
}
