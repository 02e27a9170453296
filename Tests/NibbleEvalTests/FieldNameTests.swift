import Foundation
import NibbleGenerate
import NibbleKV
import Testing

@testable import NibbleEval

/// The names of JSON fields are a contract: Specs/cli.md.
@Suite struct FieldNameTests {
  private func object(_ report: some Encodable) throws -> [String: Any] {
    let data = Data(try JSONReport.text(report).utf8)
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  @Test func evaluation() throws {
    let evaluation = try QualityEvaluation(
      model: TinyModel(),
      policies: [Policy(argument: "linear:4@recent=1024")],
      threads: 1
    )
    let result = try #require(try evaluation.run(documents: [[1, 2, 3]]).first)
    let row = try object(QualityRow(model: "tiny", quality: result))
    #expect(
      Set(row.keys) == [
        "model", "policy", "documents", "tokens", "compressed_tokens", "bits_per_value",
        "total_bytes", "exact_bytes", "positions", "kl_mean", "kl_mean_low", "kl_mean_high",
        "kl_median", "kl_p99", "kl_ratio", "kl_ratio_low", "kl_ratio_high", "same_top_1",
        "perplexity", "perplexity_exact", "questions", "recall", "recall_exact", "answers_recalled",
        "answers_recalled_exact",
        "skipped_pages", "skipped_values",
      ]
    )
    // What does not exist is null, not absent.
    #expect(row["recall"] is NSNull)
    #expect(row["kl_mean"] is NSNull)
    #expect(row["tokens"] as? Int == 3)
    let compared = try object(RowReport(rows: [QualityRow(model: "tiny", quality: result)]))
    #expect(Set(compared.keys) == ["rows"])
  }

  @Test func logits() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    defer { try? FileManager.default.removeItem(at: file) }
    let run = LogitsRun(
      model: TinyModel(),
      policy: .exact,
      tokens: [1, 2, 3],
      options: GenerationOptions(maximumTokens: 4, prefillChunk: 2)
    )
    let report = try object(try run.run(path: file.path))
    #expect(
      Set(report.keys) == [
        "model", "policy", "path", "positions", "vocabulary_size", "generated", "compressed_tokens",
      ]
    )
    // The prompt in two steps, then all generated tokens but the last.
    #expect(report["positions"] as? Int == 6)
    #expect((report["generated"] as? [Int])?.count == 4)
    #expect(try Data(contentsOf: file).count == 6 * 24 * MemoryLayout<Float>.stride)
  }

  @Test func plan() throws {
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
    let question = MemoryPlan.Question(contexts: [4096], threads: 1, memory: 64 << 20)
    let plan = try MemoryPlan(policies: [.balanced], shape: shape, question: question)
    let report = try object(plan)
    #expect(
      Set(report.keys) == ["layers", "covered_layers", "not_covered", "notes", "rows", "memory"]
    )
    let fits = try #require((report["memory"] as? [[String: Any]])?.first)
    #expect(
      Set(fits.keys) == ["policy", "memory_bytes", "sequences", "longest_context", "bytes"]
    )
    let row = try #require(plan.rows.first)
    let fields = try object(row)
    #expect(
      Set(fields.keys) == [
        "policy", "context", "sequences", "bytes", "bytes_per_token", "bits_per_value",
        "compressed_tokens", "float16_bytes", "parts", "slack", "most_sequences",
      ]
    )
    let parts = try #require(fields["parts"] as? [String: Int])
    #expect(Set(parts.keys) == ["codes", "tables", "scales", "tail", "sinks", "scratch"])
    #expect(parts.values.reduce(row.slack, +) == row.bytes)
  }

  @Test func whatFitsIsTheMostThatDoes() throws {
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
    let memory = 40 << 20
    let question = MemoryPlan.Question(contexts: [5000, 1 << 24], threads: 1, memory: memory)
    let plan = try MemoryPlan(policies: [.balanced, .exact], shape: shape, question: question)
    for (index, fit) in plan.memory.enumerated() {
      let resolved = try Plan(policy: [.balanced, .exact][index], shape: shape)
      let longest = try #require(fit.longestContext)
      #expect(try resolved.estimate(context: longest, threads: 1).total == fit.bytes)
      #expect(try #require(fit.bytes) <= memory)
      #expect(try resolved.estimate(context: longest + 1, threads: 1).total > memory)
      let row = plan.rows[2 * index]
      let most = try #require(row.mostSequences)
      #expect(most > 1)
      #expect(try resolved.estimate(context: 5000, threads: 1, sequences: most).total <= memory)
      #expect(try resolved.estimate(context: 5000, threads: 1, sequences: most + 1).total > memory)
      #expect(plan.rows[2 * index + 1].mostSequences == 0)
    }
    let small = MemoryPlan.Question(contexts: [], threads: 1, memory: 1024)
    let nothing = try MemoryPlan(policies: [.balanced], shape: shape, question: small)
    #expect(nothing.memory.first?.longestContext == nil)
    let fields = try #require((try object(nothing)["memory"] as? [[String: Any]])?.first)
    #expect(fields["longest_context"] is NSNull && fields["bytes"] is NSNull)
  }

  @Test func explanation() throws {
    let shape = ModelShape(layers: 4, queryHeads: 4, kvHeads: 2, headDim: 64)
    let explanation = PolicyExplanation(plan: try Plan(policy: .balanced, shape: shape))
    let fields = try object(explanation)
    #expect(Set(fields.keys) == ["policy", "bits_per_value", "rows", "notes"])
    let rows = try #require(fields["rows"] as? [[String: Any]])
    #expect(
      Set(try #require(rows.first).keys) == [
        "layers", "kv_heads", "side", "codec", "bits_per_value", "bytes_per_token", "reason",
      ]
    )
    // int8 in one layer and one head: 64 channels and a scale.
    let ends = try #require(explanation.rows.first { $0.layers == "0,3" })
    #expect(ends.kvHeads == "all" && ends.side == "keys" && ends.codec == "int8")
    #expect(ends.bytesPerToken == 64 * ends.bitsPerValue / 8)
  }

  @Test func tuning() throws {
    let report = try TunerTests.outcome.get().report
    let fields = try object(report)
    #expect(
      Set(fields.keys) == [
        "policy_file", "path", "version", "model", "budget", "limit_bytes", "total_bytes",
        "context",
        "bits_per_value", "measure", "tuning_tokens", "check_tokens", "loss_of_parts",
        "loss_predicted", "loss_measured", "loss_best_uniform", "kl_predicted", "kl_measured",
        "kl_best_uniform", "best_uniform", "same_top_1", "compressed_tokens", "rows", "windows",
        "units", "findings",
      ]
    )
    #expect(fields["path"] is NSNull)
    #expect(fields["kl_measured"] as? Double == report.tuned.loss)
    let rows = try #require(fields["rows"] as? [[String: Any]])
    let row: Set = [
      "policy", "total_bytes", "bits_per_value", "loss", "loss_low", "loss_high", "ratio",
      "ratio_low", "ratio_high", "same_top_1", "compressed_tokens", "positions",
    ]
    #expect(rows.allSatisfy { Set($0.keys) == row })
    let units = try #require(fields["units"] as? [[String: Any]])
    #expect(
      Set(try #require(units.first).keys) == [
        "layer", "kv_heads", "side", "codec", "bits_per_value", "rungs",
      ]
    )
  }

  @Test func generation() throws {
    let report = GenerationReport(model: "m", policy: "p", promptTokens: 1)
    #expect(
      Set(try object(report).keys) == [
        "model", "policy", "text", "prompt_tokens", "tokens",
        "tokens_per_second",
        "time_to_first_token_us", "cache_bytes", "exact_cache_bytes", "compressed_tokens",
        "bits_per_value", "tiers", "finish_reason",
      ]
    )
    #expect(
      Set(try object(report.tiers).keys) == ["memory_bytes", "disk_bytes", "disk_page_bytes"]
    )
  }
}
