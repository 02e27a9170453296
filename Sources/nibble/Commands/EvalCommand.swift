import ArgumentParser
import NibbleEval
import NibbleKV

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "What a policy costs in bytes and in quality, on text and on questions."
  )

  @OptionGroup var model: ModelOption
  @OptionGroup var policy: PolicyOption
  @OptionGroup var calibration: CalibrationOption
  @OptionGroup var source: SourceOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    let comparison = try policyComparison(
      model: model,
      source: source,
      threads: threads,
      calibration: calibration
    )
    let rows = try withProgress {
      try comparison.run(policies: [policy.policy()], progress: $0)
    }
    guard let row = rows.first else { return }
    if output.json {
      print(try JSONReport.text(row))
    } else {
      print(qualityHeader(row))
      print(qualityTable(rows))
    }
  }
}

struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Several policies on the same text and questions, in one table."
  )

  @Argument(help: "The policies, separated by commas.")
  var list: String?

  @Option(help: "The same as the argument.")
  var policies: String?

  @Flag(help: "Compare codecs: what each costs and loses, down to attention and its weights.")
  var codecs = false

  @Option(help: "With --codecs, instead of a model: normal, for standard normal rows.")
  var data: CodecData?

  @Option(
    help: """
      Policies of the list that ratios of KL divergences refer to, separated by commas: each policy's to the nearest at or before it.
      """
  )
  var baseline: String?

  @OptionGroup var model: ModelOption
  @OptionGroup var calibration: CalibrationOption
  @OptionGroup var source: SourceOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  enum CodecData: String, ExpressibleByArgument, CaseIterable {
    case normal
  }

  func validate() throws {
    if data != nil, !codecs { throw ValidationError("--data is for --codecs.") }
    if data != nil, baseline != nil { throw ValidationError("--baseline needs a model.") }
    if list != nil, policies != nil {
      throw ValidationError("Give the policies once: as argument or with --policies.")
    }
  }

  func run() throws {
    if data == .normal {
      try compareOnNormalRows()
      return
    }
    let names = codecs ? Self.defaultCodecs : Self.defaultPolicies
    let policies = try Policy.list(argument: list ?? policies ?? names)
    let baselines = try (baseline?.split(separator: ",") ?? []).map {
      try index(of: String($0), in: policies)
    }.sorted()
    let comparison = try policyComparison(
      model: model,
      source: source,
      threads: threads,
      calibration: calibration
    )
    if codecs {
      try compareCodecs(policies, comparison: comparison, baselines: baselines)
      return
    }
    let rows = try withProgress {
      try comparison.run(policies: policies, baselines: baselines, progress: $0)
    }
    if output.json {
      print(try JSONReport.text(RowReport(rows: rows)))
    } else {
      if let first = rows.first { print(qualityHeader(first)) }
      print(qualityTable(rows))
    }
  }

  private func compareCodecs(
    _ codecs: [Policy],
    comparison: PolicyComparison,
    baselines: [Int]
  ) throws {
    let rows = try withProgress {
      try CodecModelComparison(policies: comparison)
        .run(codecs: codecs, baselines: baselines, progress: $0)
    }
    if output.json {
      print(try JSONReport.text(RowReport(rows: rows)))
    } else {
      print(codecTable(rows))
      clusteringSentences(rows).forEach { print($0) }
    }
  }

  private func index(of name: String, in policies: [Policy]) throws -> Int {
    guard let index = policies.firstIndex(where: { $0.label == name }) else {
      throw ValidationError("--baseline \(name) is not one of the policies.")
    }
    return index
  }

  private func compareOnNormalRows() throws {
    let codecs = try (list ?? policies).map { try Policy.list(argument: $0) }
    let comparison = CodecComparison()
    let rows = try withProgress {
      try comparison.run(codecs: codecs ?? CodecComparison.everyCodec, progress: $0)
    }
    print(output.json ? try JSONReport.text(RowReport(rows: rows)) : codecTable(rows))
  }

  private static let defaultCodecs = [4, 3, 2].flatMap { bits in
    [
      "linear:\(bits)", "linear:\(bits)@rotation=hadamard", "clustered:\(bits)",
      "clustered:\(bits)@rotation=hadamard", "rotated:\(bits)", "trellis:\(bits)",
      "bcq:\(bits)",
    ]
  }.joined(separator: ",")
  private static let defaultPolicies =
    "exact,float16,conservative,balanced,small,linear:4,rotated:4,clustered:4"
}
