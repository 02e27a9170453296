// swift-tools-version: 6.2

import PackageDescription

// Settings of every Swift target. No unsafe flags: they would appear in the build of everybody
// who depends on this package.
let swiftSettings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

// The package manager compiles C with -O2 in release and defines no NDEBUG.
let cSettings: [CSetting] = [
  .enableWarning("all"),
  .enableWarning("extra"),
  .define("NDEBUG", .when(configuration: .release)),
]

let package = Package(
  name: "NibbleKV",
  platforms: [.macOS(.v15), .iOS(.v18), .visionOS(.v2)],
  products: [
    .library(name: "NibbleKV", targets: ["NibbleKV"]),
    .library(name: "NibbleGenerate", targets: ["NibbleGenerate"]),
    .library(name: "NibbleLlama", targets: ["NibbleLlama"]),
    .library(name: "NibbleEval", targets: ["NibbleEval"]),
    .library(name: "nibblekv", type: .dynamic, targets: ["NibbleC"]),
    .executable(name: "nibble", targets: ["nibble"]),
  ],
  traits: [
    .trait(name: "LZ4", description: "Lossless stage for stored pages, with the system's liblz4."),
    .default(enabledTraits: ["LZ4"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    // MARK: - The library
    .target(name: "CNibble", exclude: ["README.md"], cSettings: cSettings),
    .target(name: "NibbleFiles", swiftSettings: swiftSettings),
    .target(
      name: "NibbleCodec",
      dependencies: ["CNibble", "NibbleFiles"],
      swiftSettings: swiftSettings
    ),
    .target(
      name: "NibblePolicy",
      dependencies: ["NibbleCodec", .product(name: "Yams", package: "Yams")],
      swiftSettings: swiftSettings
    ),
    .target(
      name: "NibbleKV",
      dependencies: [
        "CNibble", "NibbleCodec", "NibbleFiles", "NibblePolicy",
        .product(name: "Crypto", package: "swift-crypto"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .target(name: "CLZ4", condition: .when(traits: ["LZ4"])),
        "CXXHash",
      ],
      swiftSettings: swiftSettings
    ),
    .systemLibrary(
      name: "CLZ4",
      pkgConfig: "liblz4",
      providers: [.apt(["liblz4-dev"]), .brew(["lz4"])]
    ),
    .systemLibrary(
      name: "CXXHash",
      pkgConfig: "libxxhash",
      providers: [.apt(["libxxhash-dev"]), .brew(["xxhash"])]
    ),

    // MARK: - Generation and the reference host
    .target(name: "NibbleGenerate", dependencies: ["NibbleKV"], swiftSettings: swiftSettings),
    .target(
      name: "NibbleLlama",
      dependencies: [
        "NibbleFiles", "NibbleGenerate", "NibbleKV",
        .product(name: "Crypto", package: "swift-crypto"),
        .target(name: "COpenBLAS", condition: .when(platforms: [.linux])),
      ],
      swiftSettings: swiftSettings
    ),
    .systemLibrary(
      name: "COpenBLAS",
      pkgConfig: "openblas",
      providers: [.apt(["libopenblas-dev"])]
    ),

    // MARK: - Measurement and the command line
    .target(
      name: "NibbleEval",
      dependencies: ["NibbleLlama", "CNibble"],
      swiftSettings: swiftSettings
    ),
    .executableTarget(
      name: "nibble",
      dependencies: [
        "NibbleEval",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: swiftSettings
    ),

    // MARK: - The C interface
    .target(name: "NibbleC", dependencies: ["NibbleKV"], swiftSettings: swiftSettings),

    // MARK: - Tests
    .target(name: "CTestSupport", path: "Tests/CTestSupport", cSettings: cSettings),
    .target(
      name: "MutationSupport",
      dependencies: ["CTestSupport"],
      path: "Tests/MutationSupport",
      swiftSettings: swiftSettings
    ),
    // Saves sessions until a test ends it.
    .executableTarget(
      name: "SessionSaver",
      dependencies: ["NibbleKV"],
      path: "Tests/SessionSaver",
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibbleCodecTests",
      dependencies: ["NibbleCodec", "NibbleFiles", "CNibble"],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibblePolicyTests",
      dependencies: ["NibblePolicy", "NibbleCodec", "MutationSupport"],
      exclude: ["WrongPolicies"],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibbleKVTests",
      dependencies: [
        "NibbleKV", "NibbleEval", "CNibble", "CTestSupport", "MutationSupport", "SessionSaver",
        .product(name: "CoreMetrics", package: "swift-metrics"),
        .product(name: "MetricsTestKit", package: "swift-metrics"),
      ],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibbleGenerateTests",
      dependencies: ["NibbleGenerate", "NibbleKV"],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibbleLlamaTests",
      dependencies: [
        "NibbleFiles", "NibbleLlama", "NibbleGenerate", "NibbleKV", "MutationSupport",
      ],
      exclude: ["make_fixtures.py"],
      resources: [.copy("Fixtures")],
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibbleEvalTests",
      dependencies: ["NibbleEval"],
      swiftSettings: swiftSettings
    ),

    // MARK: - Examples: built with the rest, no products
    .executableTarget(
      name: "Embedding",
      dependencies: ["NibbleKV"],
      path: "Examples/Embedding",
      swiftSettings: swiftSettings
    ),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)
