internal import Crypto
import NibblePolicy

/// A hash of the tokens of a sequence up to a page boundary: SHA-256 of the hash at the boundary before and of the tokens in
/// between, little endian, 32 bits each.
struct PrefixHash: Hashable, Sendable {
  private let words: SIMD4<UInt64>

  init(of text: String) {
    self.init(SHA256.hash(data: Array(text.utf8)))
  }

  init(after previous: PrefixHash, tokens: ArraySlice<Int32>) {
    var hash = SHA256()
    withUnsafeBytes(of: previous.words) { hash.update(bufferPointer: $0) }
    tokens.map(\.littleEndian).withUnsafeBytes { hash.update(bufferPointer: $0) }
    self.init(hash.finalize())
  }

  private init(_ digest: SHA256.Digest) {
    words = digest.withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
  }
}

/// The hashes of sequences at their page boundaries: behind the sinks, if there are any, and behind each page.
///
/// The chain begins with the model's fingerprint and with what the plan does to rows, so that what two models or two plans make
/// of the same tokens never has the same hash.
struct PrefixChain: Sendable {
  /// A hash from the one before and the tokens since.
  typealias Link = @Sendable (PrefixHash, ArraySlice<Int32>) -> PrefixHash

  let start: PrefixHash
  private let firstBoundary: Int
  private let pageTokens: Int
  private let link: Link

  init(plan: Plan, link: @escaping Link = { PrefixHash(after: $0, tokens: $1) }) {
    start = PrefixHash(of: Self.words(of: plan).joined(separator: "\n"))
    pageTokens = plan.policy.pageTokens
    firstBoundary = plan.policy.sinks > 0 ? plan.policy.sinks : plan.policy.pageTokens
    self.link = link
  }

  /// Boundaries within so many tokens.
  func boundaryCount(of tokens: Int) -> Int {
    tokens < firstBoundary ? 0 : (tokens - firstBoundary) / pageTokens + 1
  }

  /// The position of a boundary.
  func position(ofBoundary index: Int) -> Int { firstBoundary + index * pageTokens }

  /// The hashes at all boundaries within `tokens`, which begin at index 0.
  ///
  /// - Complexity: O(tokens).
  func hashes(of tokens: ArraySlice<Int32>) -> [PrefixHash] {
    var last = start
    var first = 0
    return (0..<boundaryCount(of: tokens.count)).map { index in
      last = link(last, tokens[first..<position(ofBoundary: index)])
      first = position(ofBoundary: index)
      return last
    }
  }

  private static func words(of plan: Plan) -> [String] {
    let shape = plan.shape
    // Two names of one policy do the same.
    var policy = plan.policy
    policy.name = nil
    return [
      "NibbleKV prefix 1", shape.fingerprint ?? "",
      "\(shape.layers) \(shape.queryHeads) \(shape.kvHeads) \(shape.headDim)",
      shape.slidingWindows.map { $0.map(String.init) ?? "all" }.joined(separator: " "),
      policy.yaml,
    ] + plan.entries.map { "\($0.codec)" }
  }
}
