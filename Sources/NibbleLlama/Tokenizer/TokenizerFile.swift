/// `tokenizer.json` as it is written.
struct TokenizerFile: Decodable {
  var addedTokens: [AddedTokenFile]?
  var normalizer: TokenizerComponent?
  var preTokenizer: TokenizerComponent?
  var postProcessor: TokenizerComponent?
  var decoder: TokenizerComponent?
  var model: BytePairFile

  private enum CodingKeys: String, CodingKey {
    case addedTokens = "added_tokens"
    case normalizer
    case preTokenizer = "pre_tokenizer"
    case postProcessor = "post_processor"
    case decoder
    case model
  }
}

/// A token that is found in the text before anything else happens to it.
struct AddedTokenFile: Decodable {
  var id: Int
  var content: String
  var isWord: Bool?
  var stripsLeft: Bool?
  var stripsRight: Bool?
  var isNormalized: Bool?
  var isSpecial: Bool?

  private enum CodingKeys: String, CodingKey {
    case id
    case content
    case isWord = "single_word"
    case stripsLeft = "lstrip"
    case stripsRight = "rstrip"
    case isNormalized = "normalized"
    case isSpecial = "special"
  }
}

/// A normalizer, pre-tokenizer, post-processor or decoder: a type and the parameters of that type.
struct TokenizerComponent: Decodable {
  var type: String
  /// The parts of a sequence, whatever it is a sequence of.
  var parts: [TokenizerComponent]
  var pattern: Pattern?
  var behavior: String?
  var isInverted: Bool?
  var addsPrefixSpace: Bool?
  var usesPattern: Bool?
  var splitsDigits: Bool?
  var template: [TemplatePiece]?
  var specialTokens: [String: SpecialToken]?

  /// What a `Split` looks for.
  struct Pattern: Decodable {
    var expression: String?
    var text: String?

    private enum CodingKeys: String, CodingKey {
      case expression = "Regex"
      case text = "String"
    }
  }

  /// A part of a template: the text or a special token.
  struct TemplatePiece: Decodable {
    var specialToken: Name?
    var sequence: Name?

    struct Name: Decodable {
      var id: String
    }

    private enum CodingKeys: String, CodingKey {
      case specialToken = "SpecialToken"
      case sequence = "Sequence"
    }
  }

  /// The ids of a template's special token.
  struct SpecialToken: Decodable {
    var ids: [Int]
  }

  private enum CodingKeys: String, CodingKey {
    case type
    case normalizers
    case preTokenizers = "pretokenizers"
    case processors
    case decoders
    case pattern
    case behavior
    case isInverted = "invert"
    case addsPrefixSpace = "add_prefix_space"
    case usesPattern = "use_regex"
    case splitsDigits = "individual_digits"
    case template = "single"
    case specialTokens = "special_tokens"
  }

  init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    type = try values.decode(String.self, forKey: .type)
    parts = []
    for key in [CodingKeys.normalizers, .preTokenizers, .processors, .decoders] {
      parts += try values.decodeIfPresent([TokenizerComponent].self, forKey: key) ?? []
    }
    // Other types give some of these names another meaning.
    switch type {
    case "Split":
      pattern = try values.decode(Pattern.self, forKey: .pattern)
      behavior = try values.decodeIfPresent(String.self, forKey: .behavior)
      isInverted = try values.decodeIfPresent(Bool.self, forKey: .isInverted)
    case "ByteLevel":
      addsPrefixSpace = try values.decodeIfPresent(Bool.self, forKey: .addsPrefixSpace)
      usesPattern = try values.decodeIfPresent(Bool.self, forKey: .usesPattern)
    case "Digits":
      splitsDigits = try values.decodeIfPresent(Bool.self, forKey: .splitsDigits)
    case "TemplateProcessing":
      template = try values.decode([TemplatePiece].self, forKey: .template)
      specialTokens = try values.decode([String: SpecialToken].self, forKey: .specialTokens)
    default:
      break
    }
  }
}

/// The `BPE` model: a vocabulary and its merges.
struct BytePairFile: Decodable {
  var type: String?
  var vocabulary: [String: Int]
  var merges: [[String]]
  var ignoresMerges: Bool?
  var fallsBackToBytes: Bool?
  var dropout: Double?
  var unknownToken: String?
  var subwordPrefix: String?
  var wordSuffix: String?

  private enum CodingKeys: String, CodingKey {
    case type
    case vocabulary = "vocab"
    case merges
    case ignoresMerges = "ignore_merges"
    case fallsBackToBytes = "byte_fallback"
    case dropout
    case unknownToken = "unk_token"
    case subwordPrefix = "continuing_subword_prefix"
    case wordSuffix = "end_of_word_suffix"
  }

  init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    type = try values.decodeIfPresent(String.self, forKey: .type)
    // Other models have vocabularies of other forms.
    guard (type ?? "BPE") == "BPE" else {
      throw DecodingError.dataCorrupted(
        DecodingError.Context(
          codingPath: decoder.codingPath,
          debugDescription: "tokenizer model '\(type ?? "")' is not supported; supported: BPE"
        )
      )
    }
    vocabulary = try values.decode([String: Int].self, forKey: .vocabulary)
    // Older files have "a b", newer ones ["a", "b"].
    if let lines = try? values.decode([String].self, forKey: .merges) {
      merges = lines.map { $0.split(separator: " ").map(String.init) }
    } else {
      merges = try values.decode([[String]].self, forKey: .merges)
    }
    ignoresMerges = try values.decodeIfPresent(Bool.self, forKey: .ignoresMerges)
    fallsBackToBytes = try values.decodeIfPresent(Bool.self, forKey: .fallsBackToBytes)
    dropout = try values.decodeIfPresent(Double.self, forKey: .dropout)
    unknownToken = try values.decodeIfPresent(String.self, forKey: .unknownToken)
    subwordPrefix = try values.decodeIfPresent(String.self, forKey: .subwordPrefix)
    wordSuffix = try values.decodeIfPresent(String.self, forKey: .wordSuffix)
  }
}
