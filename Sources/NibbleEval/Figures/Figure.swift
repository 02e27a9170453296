/// A plot with what a reader needs beside it.
package struct Figure: Sendable {
  /// Letters, digits and hyphens: names files and places in a page.
  package var name: String
  /// What is shown, how it was measured, and how to read it.
  package var summary: String
  package var plot: any Plot
  /// The numbers of the plot.
  package var table: TextTable

  package var title: String { plot.title }
}
