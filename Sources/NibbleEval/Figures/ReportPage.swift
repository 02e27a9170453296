/// A report as one HTML file that needs nothing else: no scripts, no fonts, no network.
package struct ReportPage: Sendable {
  var title: String
  /// One paragraph below the title; `code` is set as such.
  var lead: (before: String, code: String, after: String)
  /// Names and values below that.
  var facts: [(name: String, value: String)]
  /// Sentences that the overview begins with.
  var findings: [String] = []
  var overview: TextTable
  var figures: [Figure]

  /// The file.
  package var html: String {
    """
    <!doctype html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>\(title.escapedForMarkup)</title>
    <style>
    \(ReportStyle.sheet)
    </style>
    </head>
    <body>
    <header>
    <h1>\(title.escapedForMarkup)</h1>
    <p>\(lead.before.escapedForMarkup)<code>\(lead.code.escapedForMarkup)</code>\(lead.after.escapedForMarkup)</p>
    \(factList)
    </header>
    <nav aria-label="Figures">
    <ul>
    \(figures.map(link).joined(separator: "\n"))
    </ul>
    </nav>
    <main>
    \(overviewSection)
    \(figures.map(element).joined(separator: "\n"))
    </main>
    </body>
    </html>

    """
  }

  /// Writes the file.
  ///
  /// - Parameter path: Where to.
  /// - Throws: ``EvaluationError/unwritable(path:reason:)``.
  package func write(to path: String) throws(EvaluationError) {
    try writeText(html, to: path)
  }

  private var factList: String {
    let parts = facts.map {
      "<div><dt>\($0.name.escapedForMarkup)</dt><dd>\($0.value.escapedForMarkup)</dd></div>"
    }
    return "<dl>\n\(parts.joined(separator: "\n"))\n</dl>"
  }

  private var overviewSection: String {
    let sentences = findings.map { "<li>\($0.escapedForMarkup)</li>" }
    let list = sentences.isEmpty ? "" : "<ul>\n\(sentences.joined(separator: "\n"))\n</ul>\n"
    return """
      <section class="wide" aria-labelledby="overview-title">
      <h2 id="overview-title">At a glance</h2>
      \(list)\(Self.table(overview, name: "At a glance"))
      </section>
      """
  }

  private func link(_ figure: Figure) -> String {
    let name = figure.name.escapedForMarkup
    return "<li><a href=\"#\(name)\">\(figure.title.escapedForMarkup)</a></li>"
  }

  private func element(_ figure: Figure) -> String {
    let name = figure.name.escapedForMarkup
    let svg = figure.plot.element(attributes: [
      ("role", "img"), ("aria-labelledby", "\(figure.name)-title"),
      ("aria-describedby", "\(figure.name)-summary"),
    ])
    return """
      <figure id="\(name)">
      <figcaption>
      <h2 id="\(name)-title">\(figure.title.escapedForMarkup)</h2>
      <p id="\(name)-summary">\(figure.summary.escapedForMarkup)</p>
      </figcaption>
      \(svg)<details>
      <summary>Data of this figure</summary>
      \(Self.table(figure.table, name: "Data: \(figure.title)"))
      </details>
      </figure>
      """
  }

  /// A table in a region of its own, which scrolls where the table is wider than the page.
  private static func table(_ table: TextTable, name: String) -> String {
    func row(_ cells: [String], tag: String) -> String {
      let parts = zip(cells, table.alignments).map { cell, alignment in
        let number = alignment == .right ? " class=\"number\"" : ""
        return "<\(tag)\(number)>\(cell.escapedForMarkup)</\(tag.prefix(2))>"
      }
      return "<tr>\(parts.joined())</tr>"
    }
    let rows = table.rows.map { row($0, tag: "td") }.joined(separator: "\n")
    return """
      <div class="scroll" role="region" tabindex="0" aria-label="\(name.escapedForMarkup)">
      <table>
      <thead>\(row(table.header, tag: "th scope=\"col\""))</thead>
      <tbody>
      \(rows)
      </tbody>
      </table>
      </div>
      """
  }
}
