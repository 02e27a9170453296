/// Which stretches of a slab or of a file are free.
///
/// Space is taken first fit; what is given back is joined with its neighbours, and the end moves down with it.
struct Space: Sendable {
  /// Bytes that there are at most.
  let limit: Int
  /// Bytes from the start to behind the last stretch in use.
  private(set) var end = 0
  /// Free stretches below the end, in order, none touching another.
  private(set) var free: [Range<Int>] = []

  init(limit: Int = .max) {
    self.limit = limit
  }

  /// Whether nothing is in use.
  var isEmpty: Bool { end == 0 }

  /// Takes a stretch of `count` bytes, and returns where it begins; `nil` if there is none.
  ///
  /// - Complexity: O(free stretches).
  mutating func take(_ count: Int) -> Int? {
    guard let index = free.firstIndex(where: { $0.count >= count }) else {
      guard count <= limit - end else { return nil }
      defer { end += count }
      return end
    }
    let range = free[index]
    if range.count == count {
      free.remove(at: index)
    } else {
      free[index] = range.lowerBound + count..<range.upperBound
    }
    return range.lowerBound
  }

  /// Gives a stretch back.
  ///
  /// - Complexity: O(free stretches).
  mutating func release(_ range: Range<Int>) {
    let index = firstFree(from: range.lowerBound)
    var joined = range
    var replaced = index..<index
    if index < free.count, free[index].lowerBound == joined.upperBound {
      joined = joined.lowerBound..<free[index].upperBound
      replaced = index..<index + 1
    }
    if index > 0, free[index - 1].upperBound == joined.lowerBound {
      joined = free[index - 1].lowerBound..<joined.upperBound
      replaced = index - 1..<replaced.upperBound
    }
    if joined.upperBound == end {
      end = joined.lowerBound
      free.removeSubrange(replaced)
    } else {
      free.replaceSubrange(replaced, with: [joined])
    }
  }

  private func firstFree(from offset: Int) -> Int {
    var low = 0
    var high = free.count
    while low < high {
      let middle = (low + high) / 2
      if free[middle].lowerBound < offset { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
