// swift-tools-version: 6.1

import PackageDescription

// A package of its own, so that nobody who depends on NibbleKV needs the library for benchmarks.
let package = Package(
  name: "NibbleKVBenchmarks",
  platforms: [.macOS(.v15)],
  dependencies: [
    .package(name: "NibbleKV", path: ".."),
    // Without its traits it needs no replacement of malloc; its counts of allocations then read 0.
    .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: []),
  ],
  targets: [
    .executableTarget(
      name: "Attention",
      dependencies: [
        .product(name: "Benchmark", package: "benchmark"),
        .product(name: "NibbleGenerate", package: "NibbleKV"),
        .product(name: "NibbleKV", package: "NibbleKV"),
      ],
      path: "Benchmarks/Attention",
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]
    )
  ],
  swiftLanguageModes: [.v6]
)
