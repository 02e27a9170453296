/// How much of an append is taken at a time.
package enum AppendStep {
  /// Tokens of one step: a longer append is taken as several, so that the tail stays small.
  package static let tokens = 1024
}
