import ArgumentParser
import NibbleEval
import NibbleKV

struct PolicyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "policy",
    abstract: "Look into policies.",
    subcommands: [Explain.self, Show.self]
  )

  struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print a policy's plan for a model, with the reason for every line."
    )

    @Argument(help: "The policy.")
    var policy: String

    @OptionGroup var shape: ShapeOptions
    @OptionGroup var calibration: CalibrationOption
    @OptionGroup var output: OutputOption

    func run() throws {
      let catalogue = try calibration.catalogue()
      let plan = try Plan(
        policy: try Policy(argument: policy),
        shape: try shape.shape(calibration: catalogue.calibration),
        catalogue: catalogue
      )
      if output.json {
        print(try JSONReport.text(PolicyExplanation(plan: plan)))
      } else {
        print(plan.explanation, terminator: "")
      }
    }
  }

  struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Print a policy as a file: a preset or a short form to begin one with."
    )

    @Argument(help: "The policy.")
    var policy: String

    func run() throws {
      print(try Policy(argument: policy).yaml, terminator: "")
    }
  }
}
