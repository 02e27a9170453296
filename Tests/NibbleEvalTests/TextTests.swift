import Testing

@testable import NibbleEval

@Suite struct TextTests {
  @Test func tablesAreAligned() {
    var table = TextTable([("policy", .left), ("bytes", .right)])
    table.append(["exact", "7"])
    table.append(["linear:4", "123456"])
    #expect(
      table.text == """
        policy     bytes
        --------  ------
        exact          7
        linear:4  123456
        """
    )
  }

  @Test(arguments: [
    (0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (5 << 30, "5.00 GiB"),
  ])
  func bytesHaveUnits(count: Int, text: String) {
    #expect(NumberText.bytes(count) == text)
  }

  @Test func numbersAreShort() {
    #expect(NumberText.duration(microseconds: 12.34) == "12.3 µs")
    #expect(NumberText.duration(microseconds: 12_345) == "12.35 ms")
    #expect(NumberText.duration(microseconds: 2_500_000) == "2.50 s")
    #expect(NumberText.percent(0.987) == "98.7 %")
    #expect(NumberText.significant(0.0012345) == "0.00123")
    #expect(NumberText.significant(0) == "0")
    #expect(NumberText.decimal(nil, 2) == "-")
    #expect(NumberText.decimal(.nan, 2) == "-")
  }
}
