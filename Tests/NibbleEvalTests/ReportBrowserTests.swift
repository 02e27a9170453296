#if os(Linux) || os(macOS)
import Foundation
import Testing

@testable import NibbleEval

/// Opens reports as a reader would.
@Suite(.enabled(if: Browser.path != nil, "Chromium is installed"), .serialized)
struct ReportBrowserTests {
  /// Each kind of page.
  private static let pages: [@Sendable () throws -> ReportPage] = [
    { try TinyReport.report.get().page }, { try TunerTests.outcome.get().report.page },
  ]

  @Test(arguments: pages.indices)
  func thePageLoadsWithoutAMessage(index: Int) throws {
    let report = try Self.pages[index]()
    let page = try Browser.load(report.html)
    #expect(page.messages.isEmpty, "\(page.messages)")
    for figure in report.figures {
      #expect(page.document.contains("<figure id=\"\(figure.name)\">"))
    }
  }

  /// The policy of the page lets nothing in from elsewhere, and says so on the console.
  @Test func whatIsFetchedWouldBeNoticed() throws {
    let html = try TinyReport.report.get().page.html
    let image = "<img src=\"https://example.com/a.png\"></main>"
    let page = try Browser.load(html.replacing("</main>", with: image))
    #expect(page.messages.count == 1)
  }

  @Test(arguments: pages.indices)
  func everyPlotIsThereAndFits(index: Int) throws {
    let report = try Self.pages[index]()
    let layouts = try Browser.layouts(of: report.html, widths: [1_280, 400])
    #expect(layouts.map(\.width) == [1_280, 400])
    for layout in layouts {
      // Nothing is wider than the page.
      #expect(layout.contentWidth <= layout.width)
      #expect(layout.plots.map(\.name) == report.figures.map(\.name))
      for plot in layout.plots {
        let least = layout.width == 400 ? 320.0 : 480
        #expect(plot.width >= least && plot.width <= Double(layout.width), "\(plot)")
        #expect(plot.height > 100, "\(plot)")
        #expect(plot.marks > 0, "\(plot)")
        #expect(plot.textHeight >= 9, "\(plot)")
        #expect(plot.clippedTexts.isEmpty, "\(plot)")
        #expect(plot.label?.isEmpty == false && plot.description?.isEmpty == false, "\(plot)")
        #expect(plot.tableRows > 0, "\(plot)")
      }
    }
  }
}

/// What a browser made of a page.
private struct PageLayout: Decodable {
  struct Plot: Decodable {
    var name: String
    var width: Double
    var height: Double
    /// Bars, lines and points.
    var marks: Int
    /// The size of the smallest text, in pixels.
    var textHeight: Double
    /// Texts that reach beyond the picture.
    var clippedTexts: [String]
    /// What its `aria-labelledby` names.
    var label: String?
    /// What its `aria-describedby` names.
    var description: String?
    /// Rows of the table beside it.
    var tableRows: Int
  }

  var width: Int
  var contentWidth: Int
  var plots: [Plot]
}

/// Chromium without a window.
private enum Browser {
  struct Page {
    /// The document once it has loaded.
    var document: String
    /// Lines of the console.
    var messages: [String]
  }

  static let path: String? = {
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    let names = ["chromium", "chromium-browser", "google-chrome"]
    return folders.flatMap { folder in names.map { "\(folder)/\($0)" } }
      .first(where: FileManager.default.isExecutableFile)
  }()

  /// Loads a page, once more if the browser hangs, as its first start on a machine may.
  static func load(_ html: String) throws -> Page {
    for _ in 0..<2 {
      if let page = try attempt(html) { return page }
    }
    throw Hang()
  }

  private struct Hang: Error {}

  private static func attempt(_ html: String) throws -> Page? {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let page = folder.appendingPathComponent("page.html")
    try Data(html.utf8).write(to: page)
    // Files rather than pipes: there is more on the console than a pipe holds.
    let output = folder.appendingPathComponent("output")
    let errors = folder.appendingPathComponent("errors")
    for file in [output, errors] { try Data().write(to: file) }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(path))
    process.arguments = [
      "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
      "--user-data-dir=\(folder.path)/profile", "--enable-logging=stderr", "--dump-dom",
      page.absoluteString,
    ]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = try FileHandle(forWritingTo: output)
    process.standardError = try FileHandle(forWritingTo: errors)
    try process.run()
    let end = ContinuousClock.now + .seconds(90)
    while process.isRunning, ContinuousClock.now < end { Thread.sleep(forTimeInterval: 0.05) }
    guard !process.isRunning else {
      process.terminate()
      return nil
    }
    #expect(process.terminationStatus == 0)
    let log = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
    return Page(
      document: String(decoding: try Data(contentsOf: output), as: UTF8.self),
      messages: log.split(separator: "\n").filter { $0.contains(":CONSOLE") }.map(String.init)
    )
  }

  /// Lays a page out in frames: a window is never narrower than 500 pixels.
  static func layouts(of html: String, widths: [Int]) throws -> [PageLayout] {
    let frames = widths.map { width in
      "<iframe style=\"border: 0; width: \(width)px; height: 900px\" srcdoc=\"\(html.escapedForMarkup)\"></iframe>"
    }
    let page = try load(
      """
      <!doctype html><meta charset="utf-8"><body>\(frames.joined())<script>\(script)</script></body>
      """
    )
    #expect(page.messages.isEmpty, "\(page.messages)")
    let parts = page.document.components(separatedBy: "LAYOUT-BEGINS")
    let text = try #require(parts.last?.components(separatedBy: "LAYOUT-ENDS").first)
    return try JSONDecoder().decode([PageLayout].self, from: Data(base64Encoded: text) ?? Data())
  }

  private static let script = """
    function plot(figure) {
      const svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
      const texts = [...svg.querySelectorAll("text")];
      const named = (name) => figure.ownerDocument.getElementById(svg.getAttribute(name))?.textContent ?? null;
      const boxes = texts.map((text) => text.getBoundingClientRect());
      return {
        name: figure.id, width: box.width, height: box.height,
        marks: svg.querySelectorAll("rect, circle, polygon, polyline").length,
        textHeight: Math.min(...texts.map((text) =>
          parseFloat(getComputedStyle(text).fontSize) * box.width / svg.viewBox.baseVal.width)),
        clippedTexts: texts.filter((text, i) => boxes[i].left < box.left - 1 || boxes[i].right > box.right + 1
          || boxes[i].top < box.top - 1 || boxes[i].bottom > box.bottom + 1).map((text) => text.textContent),
        label: named("aria-labelledby"), description: named("aria-describedby"),
        tableRows: figure.querySelectorAll("details tbody tr").length,
      };
    }
    addEventListener("load", () => {
      const layouts = [...document.querySelectorAll("iframe")].map((frame) => ({
        width: frame.clientWidth, contentWidth: frame.contentDocument.documentElement.scrollWidth,
        plots: [...frame.contentDocument.querySelectorAll("figure")].map(plot),
      }));
      const bytes = new TextEncoder().encode(JSON.stringify(layouts));
      const text = btoa(String.fromCharCode(...bytes));
      document.body.innerHTML = "LAYOUT-" + "BEGINS" + text + "LAYOUT-" + "ENDS";
    });
    """
}
#endif
