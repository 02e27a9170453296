import ArgumentParser

/// How results are printed.
struct OutputOption: ParsableArguments {
  @Flag(help: "Print one JSON object instead of a table.")
  var json = false
}
