import ArgumentParser
import Foundation
import NibbleEval
import NibbleKV
import NibbleLlama

/// The model.
struct ModelOption: ParsableArguments {
  @Option(
    name: .customLong("model"),
    help: ArgumentHelp(
      "A Hugging Face directory. Without it, the embedded model.",
      valueName: "dir"
    )
  )
  var directory: String?

  func load() throws -> HostModel { try HostModel(path: directory) }
}

/// The model's calibration, for policies with `rotation=aligned`.
struct CalibrationOption: ParsableArguments {
  @Option(
    name: .customLong("calibration"),
    help: ArgumentHelp("What `nibble calibrate` wrote, for rotation=aligned.", valueName: "file")
  )
  var path: String?

  func catalogue() throws -> CodecCatalogue {
    var catalogue = CodecCatalogue.standard
    catalogue.calibration = try path.map { try Calibration(path: $0) }
    return catalogue
  }
}

/// A shape: from a model's configuration, or from numbers.
struct ShapeOptions: ParsableArguments {
  @Option(
    name: .customLong("model"),
    help: ArgumentHelp(
      "A config.json of Hugging Face, of any model, or its folder. Without it, the embedded model.",
      valueName: "path"
    )
  )
  var path: String?

  @Option(help: "Attention layers.")
  var layers: Int?

  @Option(help: "Query heads of a layer.")
  var queryHeads: Int?

  @Option(help: "KV heads of a layer.")
  var kvHeads: Int?

  @Option(help: "Channels of a head.")
  var headDim: Int?

  func validate() throws {
    let numbers = [layers, queryHeads, kvHeads, headDim]
    if path != nil, numbers.contains(where: { $0 != nil }) {
      throw ValidationError("Give either --model or the numbers of a shape, not both.")
    }
    let isComplete = layers != nil && kvHeads != nil && headDim != nil
    if numbers.contains(where: { $0 != nil }), !isComplete {
      throw ValidationError("A shape needs --layers, --kv-heads and --head-dim.")
    }
  }

  /// Query heads that are not given are as many as KV heads.
  ///
  /// Weights are looked at only where a calibration must be theirs; numbers are taken for those of the calibration's model.
  func shape(calibration: Calibration?) throws -> ModelShape {
    if let layers, let kvHeads, let headDim {
      return ModelShape(
        layers: layers,
        queryHeads: queryHeads ?? kvHeads,
        kvHeads: kvHeads,
        headDim: headDim,
        fingerprint: calibration?.fingerprint
      )
    }
    let path = try path ?? EmbeddedModel.locate()
    if calibration != nil { return try ModelDirectory(path: path).shape() }
    return try ModelOutline(path: path).requireShape()
  }

  /// What the model's layers are; `nil` where numbers give the shape.
  func outline() throws -> ModelOutline? {
    layers == nil ? try ModelOutline(path: try path ?? EmbeddedModel.locate()) : nil
  }
}

/// Threads of the cache.
struct ThreadsOption: ParsableArguments {
  @Option(
    name: .customLong("threads"),
    help: "Threads of the cache. Without it, one for each core. Results do not depend on it."
  )
  var given: Int?

  /// The number, where one is needed before a cache exists.
  var count: Int {
    given ?? min(KVCache.threadLimit, ProcessInfo.processInfo.activeProcessorCount)
  }
}
