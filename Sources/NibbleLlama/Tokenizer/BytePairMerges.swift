/// Joins the bytes of a word to tokens, the pair with the lowest rank first.
struct BytePairMerges: Sendable {
  /// What a pair of tokens becomes.
  struct Merge: Sendable {
    var rank: Int
    var id: Int32
  }

  private var merges: [UInt64: Merge] = [:]

  mutating func insert(_ left: Int, _ right: Int, merge: Merge) {
    merges[Self.key(Int32(truncatingIfNeeded: left), Int32(truncatingIfNeeded: right))] = merge
  }

  /// Applies merges until none fits.
  func join(_ ids: [Int32]) -> [Int] {
    var word = Word(ids: ids)
    var queue = MergeQueue()
    for index in ids.indices.dropLast() { offer(index, of: word, to: &queue) }
    while let candidate = queue.pop() {
      // A neighbour may have been merged away since the candidate was queued.
      guard
        let next = word.next(after: candidate.index),
        let merge = merge(word.ids[candidate.index], word.ids[next]),
        merge.id == candidate.id
      else { continue }
      word.merge(candidate.index, with: next, into: merge.id)
      if let previous = word.previous(before: candidate.index) {
        offer(previous, of: word, to: &queue)
      }
      offer(candidate.index, of: word, to: &queue)
    }
    return word.ids.filter { $0 != Word.gone }.map(Int.init)
  }

  private func offer(_ index: Int, of word: Word, to queue: inout MergeQueue) {
    guard
      let next = word.next(after: index),
      let merge = merge(word.ids[index], word.ids[next])
    else { return }
    queue.push(MergeQueue.Candidate(rank: merge.rank, index: index, id: merge.id))
  }

  private func merge(_ left: Int32, _ right: Int32) -> Merge? {
    left == Word.gone ? nil : merges[Self.key(left, right)]
  }

  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }
}

/// Tokens as a doubly linked list in arrays: merging is constant time.
private struct Word {
  /// Marks a token that went into its left neighbour.
  static let gone: Int32 = -1

  var ids: [Int32]
  private var nexts: [Int]
  private var previouses: [Int]

  init(ids: [Int32]) {
    self.ids = ids
    nexts = ids.indices.map { $0 + 1 }
    previouses = ids.indices.map { $0 - 1 }
  }

  func next(after index: Int) -> Int? {
    nexts[index] < ids.count ? nexts[index] : nil
  }

  func previous(before index: Int) -> Int? {
    previouses[index] >= 0 ? previouses[index] : nil
  }

  mutating func merge(_ index: Int, with next: Int, into id: Int32) {
    ids[index] = id
    ids[next] = Self.gone
    nexts[index] = nexts[next]
    if nexts[next] < ids.count { previouses[nexts[next]] = index }
  }
}

/// A binary heap: lowest rank first, then leftmost.
private struct MergeQueue {
  struct Candidate {
    var rank: Int
    var index: Int
    var id: Int32

    static func precedes(_ first: Candidate, _ second: Candidate) -> Bool {
      (first.rank, first.index) < (second.rank, second.index)
    }
  }

  private var heap: [Candidate] = []

  mutating func push(_ candidate: Candidate) {
    var index = heap.count
    heap.append(candidate)
    while index > 0, Candidate.precedes(heap[index], heap[(index - 1) / 2]) {
      heap.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func pop() -> Candidate? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first }
    heap[0] = last
    var index = 0
    while true {
      var child = 2 * index + 1
      guard child < heap.count else { return first }
      if child + 1 < heap.count, Candidate.precedes(heap[child + 1], heap[child]) { child += 1 }
      guard Candidate.precedes(heap[child], heap[index]) else { return first }
      heap.swapAt(index, child)
      index = child
    }
  }
}
