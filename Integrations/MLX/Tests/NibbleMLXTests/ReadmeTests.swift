import Foundation
import MLXLMCommon
import NibbleKV
import NibbleMLX
import Testing

@Suite("The README")
struct ReadmeTests {
  @Test("It shows the report of a policy as it is")
  func report() throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../../README.md"
    )
    let readme = try String(contentsOf: file, encoding: .utf8)
    let native = try NativeCaches(
      policy: Policy(argument: "k=int8+v=linear:4"),
      shape: ModelShape(layers: 3, queryHeads: 32, kvHeads: 8, headDim: 128),
      modelCaches: [KVCacheSimple(), RotatingKVCache(maxSize: 4096), KVCacheSimple()]
    )
    #expect(readme.contains("```text\n\(native)\n```"), "\(native)")
  }
}
