import Foundation
import NibbleGenerate
import Testing

@testable import NibbleLlama

@Suite("Tokenizers")
struct TokenizerTests {
  /// A text and what the tokenizers library makes of it.
  private struct Row: Decodable {
    var text: String
    var ids: [Int]
    var plain: [Int]
    var decoded: String
  }

  private static func rows(_ name: String) throws -> [Row] {
    let path = try Fixtures.path("tokenizers/\(name).expected.json")
    return try JSONDecoder().decode([Row].self, from: Data(contentsOf: URL(fileURLWithPath: path)))
  }

  @Test("encode and decode as the tokenizers library does", arguments: Fixtures.tokenizers)
  func library(name: String) throws {
    let tokenizer = try BytePairTokenizer(path: Fixtures.tokenizerPath(name))
    let rows = try Self.rows(name)
    #expect(rows.count > 25)
    for row in rows {
      #expect(tokenizer.encode(row.text) == row.ids, "\(row.text.debugDescription)")
      #expect(tokenizer.encode(row.text, addingSpecialTokens: false) == row.plain)
      // Bytes are compared: equal strings may differ in their composition.
      #expect(Array(tokenizer.decode(row.ids).utf8) == Array(row.decoded.utf8))
      var assembler = TextAssembler()
      let pieces = row.ids.map { assembler.append(tokenizer.bytes(of: $0)) }
      #expect(Array((pieces.joined() + assembler.finish()).utf8) == Array(row.decoded.utf8))
    }
  }

  @Test("Ids outside the vocabulary have no text")
  func unknownIDs() throws {
    let tokenizer = try BytePairTokenizer(path: Fixtures.tokenizerPath("qwen2"))
    #expect(tokenizer.decode([-1, 1 << 40, Int.max, Int.min]) == "")
  }

  @Test("A long word takes no quadratic time", .timeLimit(.minutes(1)))
  func longWord() throws {
    let tokenizer = try BytePairTokenizer(path: Fixtures.tokenizerPath("harbour-3m"))
    let text = String(repeating: "the", count: 8_000)
    #expect(tokenizer.decode(tokenizer.encode(text)) == text)
  }

  /// A small valid tokenizer around a model and other parts.
  private static func file(
    model: String = #"{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}"#,
    preTokenizer: String = #"{"type":"ByteLevel","add_prefix_space":false}"#,
    rest: String = ""
  ) -> Data {
    Data("{\"model\":\(model),\"pre_tokenizer\":\(preTokenizer)\(rest)}".utf8)
  }

  @Test("A minimal file")
  func minimal() throws {
    let tokenizer = try BytePairTokenizer(json: Self.file())
    #expect(tokenizer.encode("abba ab") == [2, 1, 0, 2])
    #expect(tokenizer.vocabularySize == 3)
  }

  static let broken: [(String, Data)] = [
    ("nothing", Data()),
    ("no model", Data("{}".utf8)),
    ("not BPE", file(model: #"{"type":"Unigram","vocab":[["a",0.5]]}"#)),
    ("bytes", file(model: #"{"vocab":{"a":0},"merges":[],"byte_fallback":true}"#)),
    ("suffix", file(model: #"{"vocab":{"a":0},"merges":[],"end_of_word_suffix":"</w>"}"#)),
    ("dropout", file(model: #"{"vocab":{"a":0},"merges":[],"dropout":0.1}"#)),
    ("negative id", file(model: #"{"vocab":{"a":-1},"merges":[]}"#)),
    ("huge id", file(model: #"{"vocab":{"a":9223372036854775807},"merges":[]}"#)),
    ("double id", file(model: #"{"vocab":{"a":0,"b":0},"merges":[]}"#)),
    ("fraction", file(model: #"{"vocab":{"a":0.5},"merges":[]}"#)),
    ("foreign merge", file(model: #"{"vocab":{"a":0,"b":1},"merges":["a b"]}"#)),
    ("triple merge", file(model: #"{"vocab":{"a":0},"merges":["a a a"]}"#)),
    ("single merge", file(model: #"{"vocab":{"a":0},"merges":[["a"]]}"#)),
    ("number merge", file(model: #"{"vocab":{"a":0},"merges":[3]}"#)),
    ("no pre-tokenizer", file(preTokenizer: "null")),
    ("metaspace", file(preTokenizer: #"{"type":"Metaspace"}"#)),
    ("no bytes", file(preTokenizer: #"{"type":"Digits"}"#)),
    (
      "pattern",
      file(preTokenizer: #"{"type":"Split","pattern":{"Regex":"(["},"behavior":"Isolated"}"#)
    ),
    (
      "behavior",
      file(preTokenizer: #"{"type":"Split","pattern":{"String":"a"},"behavior":"Contiguous"}"#)
    ),
    ("normalizer", file(rest: #","normalizer":{"type":"Lowercase"}"#)),
    ("decoder", file(rest: #","decoder":{"type":"WordPiece"}"#)),
    ("post-processor", file(rest: #","post_processor":{"type":"BertProcessing"}"#)),
    (
      "template",
      file(
        rest: """
          ,"post_processor":{"type":"TemplateProcessing",\
          "single":[{"SpecialToken":{"id":"<s>"}}],"special_tokens":{}}
          """
      )
    ),
    ("added id", file(rest: #","added_tokens":[{"id":-3,"content":"x"}]"#)),
  ]

  @Test("Files that cannot be used are typed errors", arguments: broken)
  func refused(name: String, json: Data) {
    #expect(throws: CheckpointError.self, "\(name)") { try BytePairTokenizer(json: json) }
  }
}
