/// A byte-level vocabulary with its merges.
struct BytePairModel: Sendable {
  /// The largest token id that is accepted.
  static let largestID = 1 << 24

  private var idOfBytes: [[UInt8]: Int32] = [:]
  private var bytesOfID: [Int: [UInt8]] = [:]
  private var idOfByte = [Int32?](repeating: nil, count: 256)
  private var merges = BytePairMerges()
  private var unknownID: Int32?
  private let ignoresMerges: Bool

  init(file: BytePairFile, name: String) throws(CheckpointError) {
    ignoresMerges = file.ignoresMerges ?? false
    try Self.checkForm(file)
    for (token, id) in file.vocabulary { try insert(token, id: id, file: name) }
    for (rank, pair) in file.merges.enumerated() {
      try insert(pair, rank: rank, vocabulary: file.vocabulary, file: name)
    }
    unknownID = file.unknownToken.flatMap { file.vocabulary[$0] }.map(Int32.init)
  }

  /// The bytes of a token; nil if the vocabulary has no such id.
  func bytes(of id: Int) -> [UInt8]? {
    bytesOfID[id]
  }

  /// Ids of a word.
  ///
  /// A byte without a token becomes the unknown token, or nothing if there is none, as in the
  /// tokenizers library.
  func encode(_ word: [UInt8]) -> [Int] {
    if ignoresMerges, let id = idOfBytes[word] { return [Int(id)] }
    return merges.join(word.compactMap { idOfByte[Int($0)] ?? unknownID })
  }

  private static func checkForm(_ file: BytePairFile) throws(CheckpointError) {
    let foreign = [
      ("byte_fallback", file.fallsBackToBytes == true ? "true" : nil),
      ("dropout", file.dropout.flatMap { $0 == 0 ? nil : "\($0)" }),
      ("continuing_subword_prefix", file.subwordPrefix.flatMap { $0.isEmpty ? nil : $0 }),
      ("end_of_word_suffix", file.wordSuffix.flatMap { $0.isEmpty ? nil : $0 }),
    ]
    for (option, value) in foreign {
      guard let value else { continue }
      throw .unsupported(
        what: "tokenizer option \(option)",
        value: value,
        supported: "byte-level BPE without it"
      )
    }
  }

  private mutating func insert(_ token: String, id: Int, file: String) throws(CheckpointError) {
    guard (0...Self.largestID).contains(id) else {
      throw .invalidTokenizer(
        file: file,
        reason: "token '\(token)' has id \(id), not from 0 to \(Self.largestID)"
      )
    }
    let bytes = ByteAlphabet.bytes(of: token)
    guard bytesOfID.updateValue(bytes ?? Array(token.utf8), forKey: id) == nil else {
      throw .invalidTokenizer(file: file, reason: "id \(id) has two tokens, one is '\(token)'")
    }
    // A token outside the alphabet can only be an added one.
    guard let bytes else { return }
    idOfBytes[bytes] = Int32(id)
    if bytes.count == 1 { idOfByte[Int(bytes[0])] = Int32(id) }
  }

  private mutating func insert(
    _ pair: [String],
    rank: Int,
    vocabulary: [String: Int],
    file: String
  ) throws(CheckpointError) {
    guard pair.count == 2 else {
      // The header of a merges file may have come along.
      if pair.first?.hasPrefix("#version") == true { return }
      throw .invalidTokenizer(file: file, reason: "merge \(rank) is not a pair: \(pair)")
    }
    guard
      let left = vocabulary[pair[0]], let right = vocabulary[pair[1]],
      let joined = vocabulary[pair[0] + pair[1]]
    else {
      throw .invalidTokenizer(
        file: file,
        reason: "merge \(rank), \(pair), has a token outside the vocabulary"
      )
    }
    merges.insert(left, right, merge: BytePairMerges.Merge(rank: rank, id: Int32(joined)))
  }
}
