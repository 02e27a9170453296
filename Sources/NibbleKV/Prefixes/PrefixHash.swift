internal import Crypto
import NibblePolicy

/// A hash of the tokens of a sequence up to a page boundary: SHA-256 of the hash at the boundary before and of the tokens in
/// between, little endian, 32 bits each.
///
/// The chain begins with the model's fingerprint, so prompts of two models never meet.
struct PrefixHash: Hashable, Sendable {
  private let words: SIMD4<UInt64>

  private init(_ digest: SHA256.Digest) {
    words = digest.withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
  }

  private init(start shape: ModelShape) {
    self.init(SHA256.hash(data: Array("NibbleKV prefix 1 \(shape.fingerprint ?? "")".utf8)))
  }

  private init(after previous: PrefixHash, tokens: ArraySlice<Int32>) {
    var hash = SHA256()
    withUnsafeBytes(of: previous.words) { hash.update(bufferPointer: $0) }
    for token in tokens {
      withUnsafeBytes(of: token.littleEndian) { hash.update(bufferPointer: $0) }
    }
    self.init(hash.finalize())
  }

  /// The hashes at all boundaries within `tokens`: behind the sinks, if there are any, and behind each page.
  ///
  /// - Complexity: O(tokens).
  static func chain(of tokens: ArraySlice<Int32>, plan: Plan) -> [PrefixHash] {
    var chain: [PrefixHash] = []
    var last = PrefixHash(start: plan.shape)
    var start = tokens.startIndex
    var end = start + (plan.policy.sinks > 0 ? plan.policy.sinks : plan.policy.pageTokens)
    while end <= tokens.endIndex {
      last = PrefixHash(after: last, tokens: tokens[start..<end])
      chain.append(last)
      start = end
      end += plan.policy.pageTokens
    }
    return chain
  }
}
