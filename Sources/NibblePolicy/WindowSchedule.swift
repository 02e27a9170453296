/// Which pages of a layer with a sliding window are dropped.
package enum WindowSchedule {
  /// Pages, from the front, that no query of a token from `tokens` on sees; the `recent` tokens before the window stay.
  package static func droppedPages(
    tokens: Int,
    window: Int,
    sinks: Int,
    recent: Int,
    pageTokens: Int
  ) -> Int {
    // The query of the next token sees `window - 1` of those before it.
    max(0, tokens - (window - 1) - recent - sinks) / pageTokens
  }
}
