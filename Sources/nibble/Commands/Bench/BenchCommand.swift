import ArgumentParser
import NibbleKV

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure speed and memory on this machine, with random rows.",
    subcommands: [
      Decode.self, Prefill.self, Prefix.self, Scaling.self, Seal.self, Encode.self, Memory.self,
      Session.self,
    ]
  )
}

/// The policies that a benchmark takes in turn.
struct BenchPolicies: ParsableArguments {
  @Option(
    name: [.customLong("policies"), .customLong("policy")],
    help: "The policies, separated by commas."
  )
  var text = "float16,conservative,linear:4,clustered:4,rotated:4"

  func list() throws -> [Policy] { try Policy.list(argument: text) }
}

/// The heads of a benchmark's layers.
struct BenchHeads: ParsableArguments {
  @Option(help: "Query heads.")
  var queryHeads = 32

  @Option(help: "KV heads.")
  var kvHeads = 8

  @Option(help: "Channels of a head.")
  var headDim = 128

  func shape(layers: Int) -> ModelShape {
    ModelShape(layers: layers, queryHeads: queryHeads, kvHeads: kvHeads, headDim: headDim)
  }
}
