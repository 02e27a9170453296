/// The library's version.
package enum NibbleKVVersion {
  /// As files and the program name it.
  package static let text = "0.1.0"
}
