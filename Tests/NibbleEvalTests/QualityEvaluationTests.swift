import NibbleGenerate
import NibbleKV
import Testing

@testable import NibbleEval

@Suite struct QualityEvaluationTests {
  private let documents = [TinyModel.document(330, seed: 5), TinyModel.document(200, seed: 6)]

  private func results(_ policies: String...) throws -> [QualityResult] {
    let evaluation = try QualityEvaluation(
      model: TinyModel(),
      policies: policies.map { try Policy(argument: $0) },
      threads: 1
    )
    return try evaluation.run(documents: documents)
  }

  @Test func exactDoesNotDiverge() throws {
    let result = try #require(try results("exact").first)
    #expect(result.divergence?.mean == 0)
    #expect(result.divergence?.percentile99 == 0)
    #expect(result.sameTop1 == 1)
    #expect(result.positions == 530)
    #expect(result.compressedTokens == 0)
    #expect(result.bitsPerValue == 32)
    #expect(result.perplexity != nil)
    #expect(result.perplexity == result.perplexityExact)
  }

  @Test func compressionDivergesMoreWithFewerBits() throws {
    let results = try results("linear:2", "linear:4", "int8")
    let means = results.compactMap { $0.divergence?.mean }
    #expect(means.count == 3)
    #expect(means[0] > means[1] && means[1] > means[2] && means[2] > 0)
    #expect((results[0].sameTop1 ?? 1) < 1)
    #expect(Set(results.map(\.perplexityExact)).count == 1)
  }

  @Test func onlyPositionsWithCompressedHistoryCount() throws {
    let result = try #require(try results("linear:4@sinks=4@recent=16").first)
    // Steps of 64 tokens. A page holds tokens 4 to 67; the step that begins at token 128 is the
    // first that finds them older than 16 tokens, so 330 - 128 and 200 - 128 positions count.
    #expect(result.positions == 202 + 72)
    // The last steps begin at 320 and at 192: (320 - 4 - 16) / 64 = 4 pages and (192 - 20) / 64 =
    // 2.
    #expect(result.compressedTokens == 6 * 64)
    #expect(result.tokens == 530)
    #expect(result.documents == 2)
    // 530 tokens, 2 layers, 16 channels, keys and values, 2 bytes.
    #expect(result.exactBytes == 530 * 2 * 16 * 2 * 2)
    #expect(result.totalBytes > 0)
  }

  @Test func nothingCountsWhereNothingIsSealed() throws {
    let result = try #require(try results("linear:4@recent=1024").first)
    #expect(result.positions == 0)
    #expect(result.divergence == nil && result.sameTop1 == nil && result.perplexity == nil)
  }

  @Test func policiesDoNotDisturbEachOther() throws {
    let together = try results("exact", "rotated:3", "clustered:4")
    #expect(try results("rotated:3") == [together[1]])
  }

  @Test(
    "Threads change nothing, whether there are more of them or of policies",
    arguments: [2, 3, 7]
  )
  func threads(count: Int) throws {
    let policies = try Policy.list(argument: "exact,rotated:3,clustered:4")
    let evaluation = try QualityEvaluation(model: TinyModel(), policies: policies, threads: count)
    #expect(
      try evaluation.run(documents: documents, baselines: [1])
        == QualityEvaluation(model: TinyModel(), policies: policies, threads: 1)
        .run(documents: documents, baselines: [1])
    )
  }

  @Test func stepsFitTheSmallestPage() throws {
    let policies = try Policy.list(argument: "exact@page_tokens=128,linear:4@page_tokens=32")
    let evaluation = try QualityEvaluation(model: TinyModel(), policies: policies, threads: 1)
    #expect(evaluation.stepTokens == 32)
  }

  @Test func progressReachesTheEnd() throws {
    var last: WorkProgress?
    let evaluation = try QualityEvaluation(model: TinyModel(), policies: [.exact], threads: 1)
    _ = try evaluation.run(documents: documents) { last = $0 }
    #expect(last == WorkProgress(phase: "text", completed: 530, total: 530))
  }

  @Test func wrongTokensAreRefused() throws {
    let evaluation = try QualityEvaluation(model: TinyModel(), policies: [.exact], threads: 1)
    #expect(throws: EvaluationError.tokenOutOfRange(token: 24, document: 1, vocabularySize: 24)) {
      try evaluation.run(documents: [[1, 2], [3, 24]])
    }
    #expect(throws: EvaluationError.self) { try evaluation.run(documents: [[]]) }
    #expect(throws: EvaluationError.self) {
      try QualityEvaluation(model: TinyModel(), policies: [])
    }
  }

  @Test func brokenLogitsAreReported() throws {
    let evaluation = try QualityEvaluation(
      model: TinyModel(brokenToken: 7),
      policies: [.exact],
      threads: 1
    )
    #expect(throws: EvaluationError.nonFiniteLogit(policy: "exact", document: 0, position: 2)) {
      try evaluation.run(documents: [[1, 2, 7, 3]])
    }
  }
}

@Suite struct RecallEvaluationTests {
  private let model = TinyModel()

  /// What greedy generation says after a prompt.
  private func greedy(_ prompt: [Int], count: Int) throws -> [Int] {
    let store = ReferenceCache(shape: model.shape)
    var answer: [Int] = []
    var logits = try model.forward(tokens: prompt, store: store, logits: .last)
    for _ in 0..<count {
      let token = try #require(topToken(logits))
      answer.append(token)
      logits = try model.forward(tokens: [token], store: store, logits: .last)
    }
    return answer
  }

  @Test func onlyAnswersThatAreRightInFullCount() throws {
    let prompt = TinyModel.document(150, seed: 9)
    let answer = try greedy(prompt, count: 4)
    var wrongEnd = answer
    wrongEnd[3] = (wrongEnd[3] + 1) % 24
    let evaluation = try RecallEvaluation(
      model: model,
      questions: [
        RecallQuestion(prompt: prompt, answer: answer),
        RecallQuestion(prompt: prompt, answer: wrongEnd),
        RecallQuestion(prompt: prompt, answer: Array(answer.prefix(1))),
      ]
    )
    let answers = try evaluation.run(policy: .exact, threads: 1)
    #expect(answers.map(\.isComplete) == [true, false, true])
    #expect(answers.map(\.tokens) == [4, 4, 1])
    #expect(answers.map(\.rightTokens) == [4, 3, 1])
  }

  @Test func comparisonReportsShares() throws {
    let prompt = TinyModel.document(150, seed: 9)
    let answer = try greedy(prompt, count: 2)
    let comparison = PolicyComparison(
      model: model,
      documents: [prompt],
      questions: [
        RecallQuestion(prompt: prompt, answer: answer),
        RecallQuestion(prompt: prompt, answer: [(answer[0] + 1) % 24]),
      ],
      threads: 1
    )
    let rows = try comparison.run(policies: [.exact, Policy(argument: "linear:2")])
    #expect(rows.map(\.policy) == ["exact", "linear:2"])
    #expect(rows[0].recall == 2.0 / 3 && rows[0].recallExact == 2.0 / 3)
    #expect(rows[0].answersRecalled == 0.5 && rows[0].answersRecalledExact == 0.5)
    #expect(rows[1].recallExact == 2.0 / 3 && rows[1].questions == 2)
  }

  @Test func wrongQuestionsAreRefused() {
    #expect(throws: EvaluationError.self) { try RecallEvaluation(model: model, questions: []) }
    for (prompt, answer) in [([], [1]), ([1], []), ([24], [1]), ([1], [-1])] as [([Int], [Int])] {
      #expect(throws: EvaluationError.self) {
        try RecallEvaluation(
          model: model,
          questions: [RecallQuestion(prompt: prompt, answer: answer)]
        )
      }
    }
  }
}
