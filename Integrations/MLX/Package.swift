// swift-tools-version: 6.2

import PackageDescription

// MLX needs Metal: elsewhere, and where NIBBLE_MLX_STUBS is 1, stubs of the interface that is used stand in for it.
#if os(Linux)
let usesStubs = true
#else
let usesStubs = Context.environment["NIBBLE_MLX_STUBS"] == "1"
#endif

// As in the package above.
let swiftSettings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let mlx: [Target.Dependency] =
  usesStubs
  ? ["MLX", "MLXLMCommon"]
  : [
    .product(name: "MLX", package: "mlx-swift"),
    .product(name: "MLXLMCommon", package: "mlx-swift-lm"),
  ]

let package = Package(
  name: "NibbleMLX",
  platforms: [.macOS(.v15), .iOS(.v18), .visionOS(.v2)],
  products: [.library(name: "NibbleMLX", targets: ["NibbleMLX"])],
  dependencies: [.package(name: "NibbleKV", path: "../..")],
  targets: [
    .target(
      name: "NibbleMLX",
      dependencies: [.product(name: "NibbleKV", package: "NibbleKV")] + mlx,
      swiftSettings: swiftSettings
    ),
    .testTarget(
      name: "NibbleMLXTests",
      dependencies: ["NibbleMLX"] + mlx,
      swiftSettings: swiftSettings
    ),
  ],
  swiftLanguageModes: [.v6]
)

if usesStubs {
  package.targets += [
    .target(name: "MLX", path: "Stubs/MLX"),
    .target(name: "MLXLMCommon", dependencies: ["MLX"], path: "Stubs/MLXLMCommon"),
  ]
} else {
  package.dependencies += [
    .package(url: "https://github.com/ml-explore/mlx-swift", .upToNextMinor(from: "0.31.6")),
    // No release has TurboQuantKVCache yet.
    .package(
      url: "https://github.com/ml-explore/mlx-swift-lm",
      revision: "14414441fa44f45eee35a61e9fa0bab577cf9734"
    ),
  ]
}
