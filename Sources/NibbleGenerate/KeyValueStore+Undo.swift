public import NibbleKV

extension KeyValueStore {
  /// Runs one step of a model; if it fails halfway, takes all layers back to the tokens that they had.
  ///
  /// Taking back steps of up to 1,024 tokens needs no memory and loses nothing. After a longer one that failed, a page may
  /// have been sealed that must be cut, which needs a page and leaves its rows as they were sealed.
  ///
  /// - Parameter step: What appends to this store.
  /// - Returns: What `step` returns.
  /// - Throws: The error of `step`, or `GenerationError.storeNotRestored(failure:cause:)`.
  public func undoingOnFailure<Result>(_ step: () throws -> Result) throws -> Result {
    let tokenCount = self.tokenCount
    do {
      return try step()
    } catch {
      do {
        try truncate(to: tokenCount)
      } catch let cause {
        throw GenerationError.storeNotRestored(failure: "\(error)", cause: "\(cause)")
      }
      throw error
    }
  }
}
