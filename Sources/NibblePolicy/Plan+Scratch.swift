extension Plan {
  /// Working memory of attention, sealing and encoding, in bytes.
  ///
  /// Each thread has one block of 512 KiB: the rounded query, the scores of a page, the partial
  /// output, and the rows of the page that it encodes.
  func scratchBytes(chunk: Int, threads: Int) -> Int {
    threads * 512 * 1024
  }
}
