import ArgumentParser
import NibbleEval
import NibbleKV

struct SessionsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sessions",
    abstract: "Look into saved sessions.",
    subcommands: [List.self, Show.self, Verify.self, Export.self]
  )

  struct FileOption: ParsableArguments {
    @Argument(help: "The session.")
    var file: String

    @OptionGroup var output: OutputOption
  }

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the sessions of a folder.")

    @Argument(help: ArgumentHelp("The folder.", valueName: "dir"))
    var folder: String

    @OptionGroup var output: OutputOption

    func run() throws {
      let rows = try SessionListRow.rows(folder: folder)
      guard !output.json else {
        print(try JSONReport.text(RowReport(rows: rows)))
        return
      }
      var table = TextTable([
        ("file", .left), ("bytes", .right), ("tokens", .right), ("saves", .right),
        ("fingerprint", .left),
      ])
      for row in rows {
        table.append([
          row.file, NumberText.bytes(row.bytes), row.tokens.map { "\($0)" } ?? "-",
          row.generation.map { "\($0)" } ?? "-",
          row.error ?? row.fingerprint.map { String($0.prefix(16)) } ?? "-",
        ])
      }
      print(table.text)
    }
  }

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Show what a session holds, without reading its pages."
    )

    @OptionGroup var options: FileOption

    func run() throws {
      let report = try SessionReport(path: options.file)
      print(options.output.json ? try JSONReport.text(report) : text(report))
    }

    private func text(_ report: SessionReport) -> String {
      """
      \(report.path): \(report.tokens) tokens (\(report.tokenIDs) ids), \
      \(NumberText.bytes(report.bytes)), generation \(report.generation)
      model: \(report.layers) layers, \(report.queryHeads) query heads, \(report.kvHeads) KV heads, \
      head dimension \(report.headDim), fingerprint \(report.fingerprint ?? "none")
      plan: \(report.codecs.joined(separator: ", ")); pages of \(report.pageTokens) tokens, \
      \(report.sinks) sinks, \(report.recent) recent, calibration \(report.calibration ?? "none")
      pages: \(report.pages), \(NumberText.bytes(report.pageBytes)); unused: \
      \(NumberText.bytes(report.unusedBytes)), of an unfinished save: \
      \(NumberText.bytes(report.unfinishedBytes))
      written by version \(report.libraryVersion)
      """
    }
  }

  struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Read all of a session, and say what is damaged."
    )

    @OptionGroup var options: FileOption

    func run() throws {
      let result = try SessionVerification(path: options.file)
      if options.output.json {
        print(try JSONReport.text(result))
      } else {
        for fault in result.faults { print(fault) }
        print(
          "\(result.path): \(result.pages) pages, \(NumberText.bytes(result.pageBytes)), "
            + "\(result.faults.count) faults"
        )
      }
      if !result.faults.isEmpty { throw ExitCode(1) }
    }
  }

  struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Write a session's decoded keys and values as safetensors."
    )

    @OptionGroup var options: FileOption

    @Option(help: ArgumentHelp("The safetensors file to write.", valueName: "file"))
    var out: String

    @OptionGroup var calibration: CalibrationOption

    func run() throws {
      let export = try SessionExport(
        session: options.file,
        to: out,
        catalogue: try calibration.catalogue()
      )
      if options.output.json {
        print(try JSONReport.text(export))
      } else {
        print("\(export.path): \(export.tensors) tensors, \(export.tokens) tokens")
      }
    }
  }
}
