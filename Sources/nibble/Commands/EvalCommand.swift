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
  @OptionGroup var source: SourceOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  func run() throws {
    let rows = try compared([policy.policy()], model: model, source: source, threads: threads)
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

  @Flag(help: "Compare codecs by themselves: what each costs and loses. Needs --data.")
  var codecs = false

  @Option(help: "What codecs are compared on: normal, for standard normal rows.")
  var data: CodecData?

  @OptionGroup var model: ModelOption
  @OptionGroup var source: SourceOptions
  @OptionGroup var threads: ThreadsOption
  @OptionGroup var output: OutputOption

  enum CodecData: String, ExpressibleByArgument, CaseIterable {
    case normal
  }

  func validate() throws {
    if codecs != (data != nil) {
      throw ValidationError("Give --codecs and --data normal together.")
    }
    if list != nil, policies != nil {
      throw ValidationError("Give the policies once: as argument or with --policies.")
    }
  }

  func run() throws {
    if codecs {
      try compareCodecs()
      return
    }
    let policies = try Policy.list(argument: list ?? policies ?? Self.defaultPolicies)
    let rows = try compared(policies, model: model, source: source, threads: threads)
    if output.json {
      print(try JSONReport.text(RowReport(rows: rows)))
    } else {
      if let first = rows.first { print(qualityHeader(first)) }
      print(qualityTable(rows))
    }
  }

  private func compareCodecs() throws {
    let codecs = try (list ?? policies).map { try Policy.list(argument: $0) }
    let comparison = CodecComparison()
    let rows = try withProgress {
      try comparison.run(codecs: codecs ?? CodecComparison.everyCodec, progress: $0)
    }
    print(output.json ? try JSONReport.text(RowReport(rows: rows)) : codecTable(rows))
  }

  private static let defaultPolicies =
    "exact,float16,conservative,balanced,small,linear:4,rotated:4,clustered:4"
}

private func compared(
  _ policies: [Policy],
  model: ModelOption,
  source: SourceOptions,
  threads: ThreadsOption
) throws -> [QualityRow] {
  let host = try model.load()
  let comparison = PolicyComparison(
    model: host.model,
    documents: try source.sources.documents(for: host),
    questions: try source.sources.recallQuestions(for: host),
    threads: threads.given
  )
  return try withProgress { try comparison.run(policies: policies, progress: $0) }
}
