import Foundation
import NibbleKV
import Testing

@testable import NibbleEval

@Suite(.serialized) struct BenchTests {
  private func keys(_ report: some Encodable) throws -> Set<String> {
    let data = Data(try JSONReport.text(report).utf8)
    let object = try JSONSerialization.jsonObject(with: data) as? [String: Any]
    return Set(try #require(object).keys)
  }

  @Test func decodeMeasuresEveryPolicy() throws {
    var benchmark = DecodeBenchmark(shape: benchmarkShape(4, 2), threads: 1)
    benchmark.runs = 3
    benchmark.readByteCount = 2 << 20
    let policies = try Policy.list(argument: "float16,linear:4,rotated:4,clustered:4")
    let rows = try benchmark.run(policies: policies, contexts: [700])
    #expect(rows.map(\.policy) == ["float16", "linear:4", "rotated:4", "clustered:4"])
    for row in rows {
      #expect(row.relativeError < 2e-2)
      #expect(row.runs == 3)
      #expect(row.minMicroseconds > 0 && row.minMicroseconds <= row.medianMicroseconds)
      #expect(row.machineReadBytesPerSecond > 0)
      #expect(row.bytesPerSecond == Double(row.pageBytes) / (row.medianMicroseconds * 1e-6))
      #expect(row.shareOfReadBandwidth == row.bytesPerSecond / row.machineReadBytesPerSecond)
    }
    #expect(rows[0].compressedTokens == 0 && rows[0].bitsPerValue == 16)
    #expect(rows[1].compressedTokens > 0 && rows[1].bitsPerValue < 5)
    #expect(rows[1].pageBytes < rows[0].pageBytes)
    #expect(
      try keys(rows[0]) == [
        "policy", "sequences", "tokens", "compressed_tokens", "query_heads", "kv_heads",
        "head_dim", "threads", "isa", "median_us", "min_us", "runs", "page_bytes",
        "bytes_per_second",
        "machine_read_bytes_per_second", "share_of_read_bandwidth", "bits_per_value",
        "relative_error", "relative_error_tokens",
      ]
    )
  }

  @Test func decodeMeasuresABatch() throws {
    var benchmark = DecodeBenchmark(shape: benchmarkShape(4, 2), threads: 2)
    benchmark.runs = 1
    benchmark.readByteCount = 2 << 20
    let policies = try Policy.list(argument: "linear:4")
    let one = try benchmark.run(policies: policies, contexts: [700])[0]
    benchmark.sequences = 3
    let three = try benchmark.run(policies: policies, contexts: [700])[0]
    #expect(three.sequences == 3 && three.tokens == 700)
    #expect(three.pageBytes == 3 * one.pageBytes)
    #expect(three.compressedTokens == one.compressedTokens)
    // 699 tokens stand there before the last one: 4 sinks and 64 recent ones are not sealed.
    #expect(one.compressedTokens == (699 - 68) / 64 * 64)
    benchmark.sequences = 0
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: policies, contexts: [700]) }
  }

  @Test func decodeMeasuresAMiddleLayer() throws {
    var benchmark = DecodeBenchmark(shape: benchmarkShape(2, 1), threads: 1)
    benchmark.runs = 1
    benchmark.readByteCount = 2 << 20
    let rows = try benchmark.run(
      policies: Policy.list(argument: "balanced,rotated:4"),
      contexts: [300]
    )
    // The first and the last layer have eight-bit keys; the middle ones do not.
    #expect(rows[0].bitsPerValue == rows[1].bitsPerValue)
  }

  @Test func decodeRefusesWrongNumbers() throws {
    let benchmark = DecodeBenchmark(shape: benchmarkShape(3, 2), threads: 1)
    #expect(throws: KVError.self) { try benchmark.run(policies: [.float16], contexts: [64]) }
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], contexts: [0]) }
  }

  @Test func prefillMeasuresEveryPolicy() throws {
    let shape = ModelShape(layers: 5, queryHeads: 4, kvHeads: 2, headDim: 64)
    var benchmark = PrefillBenchmark(shape: shape, threads: 1)
    benchmark.chunk = 96
    benchmark.runs = 2
    let policies = try Policy.list(argument: "float16,rotated:4")
    let rows = try benchmark.run(policies: policies, context: 500)
    #expect(rows.map(\.policy) == ["float16", "rotated:4"])
    for row in rows {
      #expect(row.runs == 2 && row.tokens == 500 && row.chunk == 96)
      #expect(row.minMicroseconds > 0 && row.minMicroseconds <= row.medianMicroseconds)
      let total = (row.medianMicroseconds + row.appendMedianMicroseconds) * 1e-6
      #expect(row.tokensPerSecond == 500 / total)
      #expect(row.relativeErrorTokens == 500)
    }
    #expect(rows[0].relativeError < 1e-4)
    #expect(rows[1].relativeError > 1e-4 && rows[1].relativeError < 2e-2)
    #expect(rows[1].pageBytes < rows[0].pageBytes)
    benchmark.threads = 2
    let threaded = try benchmark.run(policies: policies, context: 500)
    #expect(threaded.map(\.relativeError) == rows.map(\.relativeError))
    #expect(
      try keys(rows[0]) == [
        "policy", "tokens", "chunk", "query_heads", "kv_heads", "head_dim", "threads", "isa",
        "median_us", "min_us", "append_median_us", "runs", "tokens_per_second", "page_bytes",
        "relative_error", "relative_error_tokens",
      ]
    )
  }

  @Test func prefillRefusesWrongNumbers() throws {
    let shape = ModelShape(layers: 1, queryHeads: 2, kvHeads: 1, headDim: 64)
    var benchmark = PrefillBenchmark(shape: shape, threads: 1)
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], context: 0) }
    benchmark.chunk = 0
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], context: 8) }
    benchmark.chunk = 8
    benchmark.runs = 0
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], context: 8) }
  }

  @Test func aPromptThatComesAgainIsMeasured() async throws {
    var benchmark = PrefixBenchmark(model: TinyModel(), threads: 1)
    benchmark.chunk = 50
    benchmark.runs = 2
    let policies = try Policy.list(argument: "float16,rotated:4@recent=16")
    let rows = try await benchmark.run(policies: policies, tokens: 300)
    #expect(rows.map(\.policy) == policies.map(\.label))
    for row in rows {
      #expect(row.runs == 2 && row.tokens == 300 && row.chunk == 50 && row.model == "tiny")
      #expect(row.reusedTokens == 299 && row.sameLogits && row.prefixBytes > 0)
      #expect(row.coldMinMicroseconds > 0 && row.coldMinMicroseconds <= row.coldMedianMicroseconds)
      #expect(row.warmMinMicroseconds > 0 && row.warmMinMicroseconds <= row.warmMedianMicroseconds)
      #expect(row.ratio == row.coldMedianMicroseconds / row.warmMedianMicroseconds)
    }
    #expect(rows[1].prefixBytes < rows[0].prefixBytes)
    #expect(
      try keys(rows[0]) == [
        "model", "policy", "tokens", "chunk", "threads", "isa", "runs", "cold_median_us",
        "cold_min_us", "warm_median_us", "warm_min_us", "ratio", "reused_tokens", "prefix_bytes",
        "same_logits",
      ]
    )
    await #expect(throws: EvaluationError.self) {
      try await benchmark.run(policies: policies, tokens: 1)
    }
    benchmark.runs = 0
    await #expect(throws: EvaluationError.self) {
      try await benchmark.run(policies: policies, tokens: 9)
    }
  }

  @Test func sealingIsCounted() throws {
    var benchmark = SealBenchmark(shape: benchmarkShape(2, 1), threads: 1)
    benchmark.layers = 3
    benchmark.runs = 2
    let policies = try Policy.list(argument: "rotated:4@sinks=0@recent=0,float16")
    // The last token's append finds four full pages in each layer, the last of them new.
    let rows = try benchmark.run(policies: policies, tokens: 257)
    #expect(rows.map(\.pagesSealed) == [4 * 3, 0])
    #expect(rows[0].pageBytes < rows[1].pageBytes)
    for row in rows {
      #expect(row.medianMicroseconds > 0 && row.medianMicroseconds <= row.p99Microseconds)
      #expect(row.p99Microseconds <= row.maxMicroseconds)
      #expect(row.p99OverMedian == row.p99Microseconds / row.medianMicroseconds)
      #expect(row.maxOverMedian == row.maxMicroseconds / row.medianMicroseconds)
    }
    #expect(
      try keys(rows[0]) == [
        "policy", "tokens", "layers", "query_heads", "kv_heads", "head_dim", "threads", "isa",
        "runs", "median_us", "p99_us", "max_us", "p99_over_median", "max_over_median",
        "pages_sealed", "page_bytes",
      ]
    )
  }

  @Test func sealingRefusesWrongNumbers() throws {
    var benchmark = SealBenchmark(shape: benchmarkShape(2, 1), threads: 1)
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], tokens: 0) }
    benchmark.layers = 0
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], tokens: 8) }
    benchmark.layers = 1
    benchmark.runs = 0
    #expect(throws: EvaluationError.self) { try benchmark.run(policies: [.float16], tokens: 8) }
  }

  @Test func codecsAreComparedByThemselves() throws {
    var comparison = CodecComparison()
    comparison.rows = 64
    comparison.headDim = 64
    comparison.context = nil
    let rows = try comparison.run(codecs: CodecComparison.everyCodec)
    #expect(
      Set(rows.map(\.codec)).isSuperset(of: ["float16", "linear:2", "trellis:1", "rotated:4"])
    )
    let trellis = try #require(rows.first { $0.codec == "trellis:3" })
    let rotated = try #require(rows.first { $0.codec == "rotated:3" })
    #expect(trellis.bitsPerValue == rotated.bitsPerValue)
    #expect(trellis.decibels > rotated.decibels + 1)
    #expect(
      try keys(trellis) == [
        "codec", "bits_per_value", "relative_mse_k", "relative_mse_v", "decibels",
        "encode_ns_per_value", "decode_bytes_per_second",
      ]
    )
  }

  @Test func encodeMeasuresDistortion() throws {
    let rows = try EncodeBenchmark(headDim: 64).run(
      codecs: Policy.list(argument: "float32,int8,rotated:4,k=int8+v=rotated:4")
    )
    #expect(rows[0].relativeMSE == 0 && rows[0].bitsPerValue == 32)
    #expect(rows[1].relativeMSE < 1e-4)
    #expect(rows[2].relativeMSE > 0.005 && rows[2].relativeMSE < 0.012)
    #expect(abs(rows[3].relativeMSE - (rows[1].relativeMSE + rows[2].relativeMSE) / 2) < 1e-9)
    #expect(rows.allSatisfy { $0.nanosecondsPerValue > 0 && $0.rows == 4096 })
    #expect(
      try keys(rows[0]) == [
        "codec", "head_dim", "rows", "nanoseconds_per_value", "bits_per_value", "relative_mse",
      ]
    )
  }

  @Test func encodeNeedsAPage() throws {
    var benchmark = EncodeBenchmark(headDim: 64)
    benchmark.rows = 63
    #expect(throws: EvaluationError.self) { try benchmark.run(codecs: [.float16]) }
  }

  @Test func memoryGrowthIsMeasured() throws {
    let shape = ModelShape(layers: 2, queryHeads: 8, kvHeads: 8, headDim: 128)
    let benchmark = MemoryBenchmark(shape: shape, policy: .float16, threads: 1)
    let report = try benchmark.run(context: 16_384)
    #expect(report.float16Bytes == 16_384 * 2 * 8 * 128 * 2 * 2)
    #expect(report.plannedBytes > report.float16Bytes)
    // Other tests may give memory back meanwhile; the pages themselves are new.
    #expect(report.residentGrowthBytes > report.float16Bytes * 7 / 10)
    #expect(report.compressedTokens == 0)
    #expect(
      try keys(report) == [
        "policy", "tokens", "sequences", "layers", "kv_heads", "head_dim", "chunk", "threads",
        "planned_bytes",
        "resident_growth_bytes", "float16_bytes", "compressed_tokens", "bits_per_value", "tiers",
        "forks", "fork_growth_bytes",
      ]
    )
    #expect(report.tiers.memory > report.float16Bytes && report.tiers.disk == 0)
  }

  @Test func memoryWithinABudget() throws {
    let shape = ModelShape(layers: 2, queryHeads: 2, kvHeads: 2, headDim: 128)
    var benchmark = MemoryBenchmark(shape: shape, policy: .float16, threads: 1)
    benchmark.budget = .mebibytes(8)
    #expect(throws: KVError.self) { try benchmark.run(context: 16_384) }
    benchmark.disk = DiskTier(folder: NSTemporaryDirectory())
    let tiers = try benchmark.run(context: 16_384).tiers
    #expect(tiers.memory <= 8 << 20)
    // What is not in memory is on disk.
    #expect(tiers.diskPages > 16_384 * 2 * 2 * 128 * 2 * 2 - tiers.memory)
    #expect(tiers.disk > tiers.diskPages / 2)
    benchmark.disk?.limit = .mebibytes(1)
    #expect(throws: KVError.self) { try benchmark.run(context: 16_384) }
  }

  @Test func savingAndRestoringIsTimed() throws {
    let shape = ModelShape(layers: 2, queryHeads: 4, kvHeads: 2, headDim: 64)
    var benchmark = SessionBenchmark(
      shape: shape,
      threads: 1,
      folder: NSTemporaryDirectory()
    )
    benchmark.runs = 1
    let row = try benchmark.run(policy: Policy(argument: "rotated:4"), context: 2_000)
    #expect(row.sameOutput)
    #expect(row.bytes > 2_000 * 2 * 2 * 64 * 2 / 2)
    #expect(row.ofWriteSpeed == row.writeMedianMicroseconds / row.saveMedianMicroseconds)
    #expect(row.firstAttentionMedianMicroseconds > row.restoreMedianMicroseconds)
    #expect(
      try keys(row) == [
        "policy", "tokens", "layers", "kv_heads", "head_dim", "threads", "runs", "bytes",
        "save_median_us", "write_median_us", "of_write_speed", "append_median_us",
        "restore_median_us", "first_attention_median_us", "same_output",
      ]
    )
    benchmark.runs = 0
    #expect(throws: EvaluationError.self) { try benchmark.run(policy: .balanced, context: 10) }
  }

  @Test func chunksHaveALimit() {
    let shape = ModelShape(layers: 1, queryHeads: 512, kvHeads: 512, headDim: 512)
    let benchmark = MemoryBenchmark(shape: shape, policy: .float16, chunk: 65_536, threads: 1)
    #expect(throws: EvaluationError.self) { try benchmark.run(context: 1) }
  }

  @Test func residentMemoryFollowsAllocations() throws {
    let count = 256 << 20
    let isReset = ResidentMemory.resetPeak()
    let before = try ResidentMemory.current()
    let memory = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 4096)
    for page in stride(from: 0, to: count, by: 4096) {
      memory.storeBytes(of: UInt8(truncatingIfNeeded: page), toByteOffset: page, as: UInt8.self)
    }
    // Other tests take and give back memory meanwhile.
    #expect(try ResidentMemory.current() - before > count * 7 / 10)
    memory.deallocate()
    #expect(try ResidentMemory.peak() - before > count * 7 / 10)
    if isReset {
      ResidentMemory.resetPeak()
      #expect(try ResidentMemory.peak() - before < count * 7 / 10)
    }
  }

  @Test func statusLinesAreRead() {
    let text = "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t  12 kB\nVmBad:\t twelve kB\n"
    #expect(ResidentMemory.bytes(of: "VmHWM", inStatus: text) == 1234 * 1024)
    #expect(ResidentMemory.bytes(of: "VmRSS", inStatus: text) == 12 * 1024)
    #expect(ResidentMemory.bytes(of: "VmBad", inStatus: text) == nil)
    #expect(ResidentMemory.bytes(of: "Vm", inStatus: text) == nil)
  }
}

/// 32 layers of heads of 64 channels.
func benchmarkShape(_ queryHeads: Int, _ kvHeads: Int) -> ModelShape {
  ModelShape(layers: 32, queryHeads: queryHeads, kvHeads: kvHeads, headDim: 64)
}
