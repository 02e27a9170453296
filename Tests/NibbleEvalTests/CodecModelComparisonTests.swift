import Foundation
import NibbleKV
import Testing

@testable import NibbleEval

/// Codecs on a model, from rows to predictions.
@Suite struct CodecModelComparisonTests {
  private func rows(_ codecs: String, baselines: [Int] = []) throws -> [CodecModelRow] {
    var comparison = CodecModelComparison(
      policies: PolicyComparison(
        model: TinyModel(),
        documents: [TinyModel.document(330, seed: 5), TinyModel.document(200, seed: 6)],
        questions: [],
        threads: 1
      )
    )
    comparison.context = nil
    return try comparison.run(codecs: Policy.list(argument: codecs), baselines: baselines)
  }

  @Test func exactLosesNothing() throws {
    let row = try #require(try rows("float32").first)
    // Nothing is compressed, so there are no rows to compare.
    #expect(row.relativeMSEOfKeys == nil && row.attentionError == nil && row.softmaxKL == nil)
    #expect(row.logitKL == 0 && row.sameTop1 == 1)
    #expect(row.compressedTokens == 0)
  }

  @Test func fewerBitsLoseMoreEverywhere() throws {
    let rows = try rows("int8,linear:4,linear:2", baselines: [1])
    for (finer, coarser) in zip(rows, rows.dropFirst()) {
      #expect(try #require(finer.relativeMSEOfKeys) < #require(coarser.relativeMSEOfKeys))
      #expect(try #require(finer.relativeMSEOfValues) < #require(coarser.relativeMSEOfValues))
      #expect(try #require(finer.attentionError) < #require(coarser.attentionError))
      #expect(try #require(finer.softmaxKL) < #require(coarser.softmaxKL))
      #expect(try #require(finer.klRatio) < #require(coarser.klRatio))
    }
    #expect(rows[1].klRatio == 1)
    #expect(rows[1].klRatioLow == 1 && rows[1].klRatioHigh == 1)
    #expect(rows.allSatisfy { $0.compressedTokens > 0 && $0.totalBitsPerValue > $0.bitsPerValue })
  }

  /// Rows are measured where they are compressed, against rows of the same tokens.
  @Test func rowErrorsAreThoseOfTheCodec() throws {
    let row = try #require(try rows("linear:8").first)
    let keys = try #require(row.relativeMSEOfKeys)
    // 255 levels between extremes that are about two root mean squares from zero.
    #expect(keys > 1e-6 && keys < 1e-4)
    #expect(try #require(row.attentionError) < 0.05)
  }

  @Test func fieldNames() throws {
    let row = try #require(try rows("linear:4@recent=1024").first)
    let data = Data(try JSONReport.text(row).utf8)
    let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(
      Set(object.keys) == [
        "codec", "bits_per_value", "total_bits_per_value", "compressed_tokens", "positions",
        "relative_mse_k", "relative_mse_v", "attention_error", "softmax_kl", "logit_kl",
        "logit_kl_low", "logit_kl_high", "logit_kl_median", "logit_kl_p99", "kl_ratio",
        "kl_ratio_low", "kl_ratio_high", "same_top_1", "recall", "encode_ns_per_value",
        "decode_bytes_per_second",
      ]
    )
    #expect(object["softmax_kl"] is NSNull)
    #expect(object["decode_bytes_per_second"] is NSNull)
  }
}
