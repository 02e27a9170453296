import NibbleCodec
import NibblePolicy
import Testing

@Suite struct ArgumentTests {
  @Test(arguments: Policy.presetNames)
  func presetsAreNamedByTheirName(name: String) throws {
    let preset = Policy.presets.first { $0.name == name }
    #expect(try Policy(argument: name) == preset)
  }

  @Test func aCodecStandsForBothSides() throws {
    let policy = try Policy(argument: "rotated:4")
    #expect(policy.keys == .rotated(4))
    #expect(policy.values == .rotated(4))
    #expect(policy.exact == .float16)
    #expect(policy.label == "rotated:4")
  }

  @Test(arguments: ["k=int8+v=linear:4", "v=linear:4+k=int8", "keys=int8+values=linear:4"])
  func sidesAreNamedInAnyOrder(argument: String) throws {
    let policy = try Policy(argument: argument)
    #expect(policy.keys == .int8)
    #expect(policy.values == .linear(4))
  }

  @Test func partsSetTheExactWindows() throws {
    let policy = try Policy(
      argument:
        "clustered:4@sinks=8@recent=128@page_tokens=256@skip_below=1e-3@exact_rows=bfloat16"
    )
    #expect(policy.keys == .clustered(4))
    #expect(policy.sinks == 8)
    #expect(policy.recent == 128)
    #expect(policy.pageTokens == 256)
    #expect(policy.skipBelow == 0.001)
    #expect(policy.exact == .bfloat16)
  }

  @Test func codecOptionsApplyToBothSides() throws {
    let policy = try Policy(
      argument: "k=linear:4+v=linear:3@mean=removed@rotation=hadamard@group=32@axis=channel"
    )
    for (codec, bits) in [(policy.keys, 4), (policy.values, 3)] {
      #expect(codec.bits == bits)
      #expect(codec.removesMean)
      #expect(codec.rotation == .hadamard)
      #expect(codec.group == 32)
      #expect(codec.axis == .channel)
    }
  }

  @Test func codecOptionsApplyToOneSide() throws {
    let policy = try Policy(
      argument: "trellis:3@k.rotation=aligned@v.bits=2@mean=removed@v.rotation=none"
    )
    #expect(policy.keys == .trellis(3).aligned.centred)
    #expect(policy.keys.description == "trellis:3 rotation=aligned mean=removed")
    #expect(policy.values.bits == 2)
    #expect(policy.values.rotation == .none)
    #expect(policy.values.removesMean)
    for wrong in ["rotated:3@k.sinks=4", "rotated:3@k.rotatio=none", "rotated:3@x.bits=2"] {
      #expect(throws: PolicyError.self) { try Policy(argument: wrong) }
    }
    #expect(throws: PolicyError.self) { try Policy(argument: "balanced@k.rotation=aligned") }
  }

  @Test func presetsTakeWindows() throws {
    let policy = try Policy(argument: "balanced@recent=256")
    #expect(policy.recent == 256)
    #expect(policy.rules == Policy.balanced.rules)
    let plan = try Plan(policy: policy, shape: .sample)
    #expect(plan.entry(layer: 3, head: 0, side: .keys).reason == "preset balanced")
  }

  @Test(arguments: ["float32", "bfloat16"])
  func exactCodecsKeepTheTailInTheirOwnRows(name: String) throws {
    let policy = try Policy(argument: name)
    #expect(policy.exact == policy.keys)
  }

  @Test func listsKeepTheirOrder() throws {
    let policies = try Policy.list(argument: "float16,balanced,rotated:3,k=int8+v=linear:4")
    let labels = ["float16", "balanced", "rotated:3", "k=int8+v=linear:4"]
    #expect(policies.map(\.label) == labels)
  }

  @Test func filesAreKnownByTheirPath() throws {
    let policy = try Policy(argument: exampleFolder + "careful-ends.yaml")
    #expect(policy.name == "careful-ends")
    #expect(try Policy(argument: exampleFolder + "uniform.yaml").label == "uniform.yaml")
  }

  struct Wrong: CustomTestStringConvertible {
    var argument: String
    var message: String
    var hint: String?
    var testDescription: String { argument }
  }

  @Test(arguments: [
    Wrong(argument: "rotatd:4", message: "unknown codec 'rotatd'", hint: "rotated"),
    Wrong(argument: "balancd", message: "unknown codec 'balancd'", hint: "balanced"),
    Wrong(argument: "linear:5", message: "no form of '5' bits; it has 2, 3, 4, 8", hint: "4"),
    Wrong(argument: "k=int8", message: "values are missing", hint: nil),
    Wrong(argument: "v=int8", message: "keys are missing", hint: nil),
    Wrong(argument: "k=int8+k=int8", message: "'k' is given twice", hint: nil),
    Wrong(argument: "k=int8+value=int8", message: "unknown side 'value'", hint: "values"),
    Wrong(argument: "k=int8+", message: "'' is no 'key=value'", hint: nil),
    Wrong(argument: "", message: "no codec is named", hint: nil),
    Wrong(argument: "rotated:4@sink=4", message: "unknown key 'sink'", hint: "sinks"),
    Wrong(argument: "rotated:4@sinks=-1", message: "'sinks' is -1; expected 0 to 1024", hint: "0"),
    Wrong(argument: "rotated:4@recent=many", message: "expected a whole number", hint: nil),
    Wrong(argument: "rotated:4@recent=65537", message: "expected 0 to 65536", hint: "65536"),
    Wrong(argument: "rotated:4@page_tokens=65", message: "'page_tokens' is 65", hint: "64"),
    Wrong(argument: "rotated:4@exact_rows=int8", message: "'exact_rows' is 'int8'", hint: nil),
    Wrong(argument: "linear:4@axis=chanel", message: "cannot be 'chanel'", hint: "channel"),
    Wrong(argument: "int8@skip_below=0.5", message: "'skip_below' is 0.5; expected", hint: nil),
    Wrong(argument: "int8@skip_below=few", message: "'few'; expected a number", hint: nil),
    Wrong(argument: "rotated:4@@sinks=4", message: "'' is no 'key=value'", hint: nil),
    Wrong(argument: "balanced@mean=removed", message: "a preset names its own codecs", hint: nil),
    Wrong(argument: "k=linear:4@axis=channel+v=int8", message: "stand at the end", hint: nil),
    Wrong(argument: String(repeating: "x", count: 300), message: "300 characters", hint: nil),
    Wrong(argument: "./no-such-policy.yaml", message: "cannot be read", hint: nil),
  ])
  func wrongArgumentsSayWhatToChange(wrong: Wrong) throws {
    let error = try #require(
      policyError { () throws(PolicyError) in try Policy(argument: wrong.argument) }
    )
    #expect(error.message.contains(wrong.message), "\(error)")
    #expect(error.hint == wrong.hint, "\(error)")
  }

  @Test func anEmptyItemOfAListIsAnError() {
    #expect(throws: PolicyError.self) { try Policy.list(argument: "float16,,balanced") }
  }

  @Test func aDirectoryIsNoPolicy() {
    #expect(throws: PolicyError.self) { try Policy(argument: exampleFolder) }
  }
}
