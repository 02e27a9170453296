import ArgumentParser
import Logging
import NibbleKV

/// The command line.
///
/// What it computes lives in NibbleEval; here are words and tables.
@main
struct Nibble: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nibble",
    abstract: "A KV cache that stays compressed: run it, measure it, plan it.",
    discussion: """
      A POLICY is a preset (exact, float16, conservative, balanced, small), a policy file \
      (path/policy.yaml), or a short form: rotated:4, k=int8+v=linear:4, \
      clustered:4@sinks=4@recent=64.

      Without --model, the embedded model of the repository is used. With --json, a command \
      prints one JSON object; Specs/cli.md lists the fields.
      """,
    version: NibbleKVVersion.text,
    subcommands: [
      GenerateCommand.self, EvalCommand.self, CompareCommand.self, BenchCommand.self,
      PlanCommand.self, PolicyCommand.self, CalibrateCommand.self, SessionsCommand.self,
      ReportCommand.self, TuneCommand.self, LogitsCommand.self,
    ]
  )

  static func main() async {
    LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
    do {
      var command = try parseAsRoot()
      if var command = command as? any AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      guard let diagnostic = diagnostic(of: error) else { exit(withError: error) }
      printNote(diagnostic)
      exit(withError: ExitCode.failure)
    }
  }

  /// What is wrong with a policy's file, in the form that editors and build tools know and that leads them to the place.
  private static func diagnostic(of error: any Error) -> String? {
    let error =
      if case .policy(let inner)? = error as? KVError { inner as any Error } else { error }
    guard let error = error as? PolicyError, error.file != nil else { return nil }
    return error.diagnostic
  }
}
