import Foundation
import NibbleGenerate
import Testing

@testable import NibbleEval

/// Text, tokens and questions from files, with the embedded model.
@Suite struct SourceTests {
  private let host: HostModel
  private let directory: TemporaryDirectory

  private static let embedded = Result { try HostModel(path: nil) }

  init() throws {
    host = try Self.embedded.get()
    directory = try TemporaryDirectory()
  }

  @Test func textsBeginWithTheBeginToken() throws {
    let path = try directory.write("texts.json", #"["The boat.", "The mill."]"#)
    let documents = try EvaluationSources(text: path).documents(for: host)
    #expect(documents.count == 2)
    #expect(documents.allSatisfy { $0.first == 0 && $0.count > 1 })
    #expect(host.tokenizer?.decode(documents[1]) == "The mill.")
    let plain = try directory.write("text.txt", "The boat.")
    #expect(try EvaluationSources(text: plain).documents(for: host) == [documents[0]])
  }

  @Test func tokensAreTakenAsTheyAre() throws {
    let one = try directory.write("one.json", "[5, 6, 7]")
    #expect(try EvaluationSources(tokens: one).documents(for: host) == [[5, 6, 7]])
    let two = try directory.write("two.json", "[[5], [6, 7], [8]]")
    #expect(try EvaluationSources(tokens: two).documents(for: host) == [[5], [6, 7], [8]])
    let limited = EvaluationSources(tokens: two, documentLimit: 2, tokenLimit: 2)
    #expect(try limited.documents(for: host) == [[5], [6]])
  }

  @Test func documentsAreCutAtTheContext() throws {
    let many = Array(repeating: 1, count: 5_000).description
    let path = try directory.write("long.json", many)
    let documents = try EvaluationSources(tokens: path).documents(for: host)
    #expect(documents.map(\.count) == [host.contextLength ?? 0])
  }

  @Test func answersAreWhatFollowsThePrompt() throws {
    let path = try directory.write(
      "questions.jsonl",
      """
      {"prompt": "Where is the boat? Answer:", "answer": " at the quay."}

      {"prompt": [3, 4], "answer": [5]}
      """
    )
    let questions = try EvaluationSources(questions: path).recallQuestions(for: host)
    #expect(questions.count == 2)
    #expect(questions[0].prompt.first == 0)
    #expect(host.tokenizer?.decode(questions[0].answer) == " at the quay.")
    #expect(questions[1] == RecallQuestion(prompt: [3, 4], answer: [5]))
  }

  @Test func questionsAreAskedOnlyWhereTheyFit() throws {
    let text = try directory.write("text.txt", "The boat.")
    #expect(try EvaluationSources(text: text).recallQuestions(for: host) == [])
    #expect(try EvaluationSources(questionLimit: 0).recallQuestions(for: host) == [])
    #expect(try EvaluationSources(questionLimit: 3).recallQuestions(for: host).count == 3)
  }

  @Test(arguments: [
    (#"{"prompt": "a"}"#, 1), ("\n\nnothing", 3), (#"{"prompt": "a", "answer": [1]}"#, 1),
  ])
  func wrongQuestionsNameTheLine(text: String, line: Int) throws {
    let path = try directory.write("questions.jsonl", text)
    let error = #expect(throws: EvaluationError.self) {
      try EvaluationSources(questions: path).recallQuestions(for: host)
    }
    #expect("\(try #require(error))".hasPrefix("\(path):\(line): "))
  }

  @Test(arguments: [#"{"a": 1}"#, "[1, [2]]", "[1.5]", "", #"["a"]"#])
  func wrongTokenFilesAreRefused(text: String) throws {
    let path = try directory.write("tokens.json", text)
    #expect(throws: EvaluationError.self) {
      try EvaluationSources(tokens: path).documents(for: host)
    }
  }

  @Test func missingFilesAreNamed() {
    #expect(
      throws: EvaluationError.unreadable(path: "no/such", reason: "there is no such file")
    ) { try EvaluationSources(text: "no/such").documents(for: host) }
  }

  @Test func limitsAreChecked() {
    #expect(throws: EvaluationError.self) {
      try EvaluationSources(documentLimit: 0).documents(for: host)
    }
    #expect(throws: EvaluationError.self) {
      try EvaluationSources(questionLimit: -1).recallQuestions(for: host)
    }
  }
}

@Suite struct EmbeddedModelTests {
  @Test func theVariableComesFirst() throws {
    let directory = try TemporaryDirectory()
    _ = try directory.write("config.json", "{}")
    let found = try EmbeddedModel.locate(
      environment: [EmbeddedModel.variable: directory.path],
      currentDirectory: "/",
      program: #filePath,
      source: #filePath
    )
    #expect(found == directory.path)
  }

  @Test func directoriesAboveTheProgramAreSearched() throws {
    let found = try EmbeddedModel.locate(
      environment: [:],
      currentDirectory: "/",
      program: #filePath,
      source: "/"
    )
    #expect(found.hasSuffix("/" + EmbeddedModel.folder))
  }

  @Test func aMissingModelIsExplained() {
    let error = #expect(throws: EvaluationError.self) {
      try EmbeddedModel.locate(
        environment: [:],
        currentDirectory: "/",
        program: "/bin/nibble",
        source: "/"
      )
    }
    #expect(error.map { "\($0)" }?.contains("--model DIR") == true)
    #expect(throws: EvaluationError.self) {
      try EmbeddedModel.locate(
        environment: [EmbeddedModel.variable: "/no/such"],
        currentDirectory: "/",
        program: #filePath,
        source: #filePath
      )
    }
  }
}

/// A directory that goes away with the object.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/nibble-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Writes a file and returns its path.
  func write(_ name: String, _ text: String) throws -> String {
    let file = path + "/" + name
    try Data(text.utf8).write(to: URL(fileURLWithPath: file))
    return file
  }
}
