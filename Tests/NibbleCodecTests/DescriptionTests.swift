import NibbleCodec
import Testing

/// The written form of codecs.
@Suite struct DescriptionTests {
  @Test(arguments: everyCodec)
  func printsWhatItReads(text: String) throws {
    let description = try codec(text)
    #expect(try codec("\(description)") == description)
    #expect(description.description == text)
  }

  @Test func defaultsAreNotPrinted() throws {
    var linear = try CodecDescription(parsing: "linear")
    #expect(linear == .linear(4))
    try linear.set(option: "axis", to: "token")
    try linear.set(option: "zero_point", to: "true")
    try linear.set(option: "rotation", to: "none")
    try linear.set(option: "mean", to: "kept")
    try linear.set(option: "bits", to: "4")
    #expect("\(linear)" == "linear:4")
    #expect("\(CodecDescription.rotated(3).centred)" == "rotated:3 mean=removed")
    #expect(CodecDescription.float16.shortName == "float16")
    #expect(try CodecDescription(parsing: "float16:16") == .float16)
    let mine = try codec("mine mean=removed", customNames: ["mine"])
    #expect("\(mine)" == "mine mean=removed")
    #expect(mine.code == .custom("mine"))
  }

  @Test(arguments: [
    ("linaer:4", CodecError.unknownCodec(name: "linaer", nearest: "linear")),
    ("", .unknownCodec(name: "", nearest: nil)),
    ("Rotated", .unknownCodec(name: "Rotated", nearest: "rotated")),
    ("zzzzzzzz", .unknownCodec(name: "zzzzzzzz", nearest: nil)),
    ("mime", .unknownCodec(name: "mime", nearest: "mine")),
    ("linear:5", .unsupportedBits(codec: "linear", bits: "5", accepted: [2, 3, 4, 8])),
    ("linear:", .unsupportedBits(codec: "linear", bits: "", accepted: [2, 3, 4, 8])),
    ("rotated:4:4", .unsupportedBits(codec: "rotated", bits: "4:4", accepted: [2, 3, 4])),
    ("clustered:-4", .unsupportedBits(codec: "clustered", bits: "-4", accepted: [2, 3, 4])),
    ("float32:16", .unsupportedBits(codec: "float32", bits: "16", accepted: [32])),
    ("int8:4", .unsupportedBits(codec: "int8", bits: "4", accepted: [8])),
  ])
  func wrongNames(text: String, expected: CodecError) {
    #expect(throws: expected) { try CodecDescription(parsing: text, customNames: ["mine"]) }
  }

  @Test(arguments: [
    ("axsi", "token", CodecError.unknownOption(name: "axsi", nearest: "axis")),
    ("colour", "red", .unknownOption(name: "colour", nearest: nil)),
    (
      "axis", "both",
      .invalidOption(name: "axis", value: "both", expected: ["token", "channel", "none"])
    ),
    ("group", "17", .invalidOption(name: "group", value: "17", expected: ["a multiple of 16"])),
    ("group", "-16", .invalidOption(name: "group", value: "-16", expected: ["a multiple of 16"])),
    ("group", "0", .invalidOption(name: "group", value: "0", expected: ["a multiple of 16"])),
    (
      "group", "99999999999999999999",
      .invalidOption(name: "group", value: "99999999999999999999", expected: ["a multiple of 16"])
    ),
    (
      "zero_point", "yes",
      .invalidOption(name: "zero_point", value: "yes", expected: ["true", "false"])
    ),
    (
      "rotation", "on",
      .invalidOption(name: "rotation", value: "on", expected: ["none", "hadamard", "aligned"])
    ),
    ("mean", "gone", .invalidOption(name: "mean", value: "gone", expected: ["removed", "kept"])),
    (
      "format", "mxfp4",
      .unsupportedOption(
        codec: "linear",
        option: "format=mxfp4",
        reason: "only microscaling has formats"
      )
    ),
    (
      "outliers", "11",
      .invalidOption(name: "outliers", value: "11", expected: ["a percentage from 0 to 10"])
    ),
    ("bits", "7", .unsupportedBits(codec: "linear", bits: "7", accepted: [2, 3, 4, 8])),
  ])
  func wrongOptions(option: String, value: String, expected: CodecError) {
    var description = CodecDescription.linear(4)
    #expect(throws: expected) { try description.set(option: option, to: value) }
    #expect(description == .linear(4))
    #expect("\(expected)".contains("'"))
  }

  @Test func nearestWord() {
    let words = ["keys", "values", "rotated", "rotation"]
    #expect(nearest("keys", among: words) == "keys")
    #expect(nearest("kyes", among: words) == "keys")
    #expect(nearest("rotatd", among: words) == "rotated")
    #expect(nearest("valuse", among: words) == "values")
    #expect(nearest("banana", among: words) == nil)
    #expect(nearest("", among: words) == nil)
    #expect(nearest("x", among: []) == nil)
    #expect(nearest(String(repeating: "k", count: 10_000), among: words) == nil)
  }

  @Test(arguments: [
    ("float16 mean=removed", 64, 64), ("rotated:4 rotation=none", 64, 64),
    ("rotated:4 axis=channel", 64, 64), ("clustered:4 group=32", 64, 64),
    ("clustered:4 zero_point=true", 64, 64), ("linear:4 axis=none", 64, 64),
    ("linear:4 group=48", 64, 64), ("linear:4 group=128", 64, 64),
    ("linear:3 group=16", 64, 16), ("linear:4 axis=channel group=48", 64, 64),
    ("linear:4 axis=channel group=128", 64, 128), ("trellis:4", 8, 64), ("trellis:2", 32, 16),
    ("trellis:4 axis=channel", 64, 64), ("trellis:3 group=32", 64, 64),
    ("trellis:4 zero_point=true", 64, 64), ("bcq:4 zero_point=true", 64, 64),
    ("bcq:4 axis=channel", 64, 64), ("bcq:4 axis=none", 64, 64), ("bcq:4 group=48", 64, 64),
    ("microscaling group=32", 64, 64), ("pyramid:2 axis=channel", 64, 64),
    ("seeded outliers=1", 64, 64), ("float16 outliers=1", 64, 64),
    ("seeded zero_point=true", 64, 64), ("pyramid:2 scales=balanced", 64, 64),
    ("linear:4 axis=channel scales=balanced", 64, 64),
    ("clustered:4 axis=none scales=balanced", 64, 64), ("float16 scales=balanced", 64, 64),
    ("bcq:4 clip=search", 64, 64), ("rotated:4 blocks=tokens", 64, 64),
  ])
  func optionsThatDoNotCombine(text: String, headDim: Int, pageTokens: Int) throws {
    let description = try codec(text)
    for side in KVSide.allCases {
      let error = #expect(throws: CodecError.self) {
        try StripCodec(description, side: side, headDim: headDim, pageTokens: pageTokens)
      }
      guard case .unsupportedOption(let name, _, _) = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(name == description.name)
    }
  }

  @Test func shapesThatDoNotExist() throws {
    for headDim in [-8, 0, 4, 7, 12, 520, 1 << 40] {
      #expect(throws: CodecError.unsupportedHeadDimension(headDim)) {
        try StripCodec(.int8, side: .keys, headDim: headDim, pageTokens: 64)
      }
    }
    for tokens in [-16, 0, 1, 15, 80, 100, 1088, 1 << 40] {
      #expect(throws: CodecError.unsupportedPageTokens(tokens)) {
        try StripCodec(.int8, side: .keys, headDim: 64, pageTokens: tokens)
      }
    }
    var odd = CodecDescription.linear(4)
    odd.bits = 5
    #expect(throws: CodecError.unsupportedBits(codec: "linear", bits: "5", accepted: [2, 3, 4, 8]))
    {
      try StripCodec(odd, side: .keys, headDim: 64, pageTokens: 64)
    }
  }
}
