import ArgumentParser
import NibbleKV

/// One policy, as `--policy`.
struct PolicyOption: ParsableArguments {
  @Option(name: .customLong("policy"), help: "The policy.")
  var text = "balanced"

  func policy() throws -> Policy { try Policy(argument: text) }
}

extension Sequence<Int> {
  /// A list of numbers as it is written on the command line.
  var commaSeparated: String { map(String.init).joined(separator: ",") }
}

/// Numbers separated by commas.
struct NumberList: ExpressibleByArgument {
  var numbers: [Int]

  init(_ numbers: [Int]) {
    self.numbers = numbers
  }

  init?(argument: String) {
    numbers = []
    for word in argument.split(separator: ",", omittingEmptySubsequences: false) {
      guard let number = Int(word) else { return nil }
      numbers.append(number)
    }
  }

  var defaultValueDescription: String { numbers.commaSeparated }
}
