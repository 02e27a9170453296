import Foundation

/// Rotates queries and keys by their positions, in the half-split order of Hugging Face models.
struct RotaryEmbedding: Sendable {
  /// Radians per position, `[headDim / 2]`.
  let frequencies: [Float]

  init(configuration: RotaryConfiguration, headDim: Int) {
    frequencies = (0..<headDim / 2).map { pair in
      let exponent = Double(2 * pair) / Double(headDim)
      let frequency = 1 / pow(configuration.base, exponent)
      return Float(configuration.scaling.apply(to: frequency))
    }
  }

  /// Cosines and sines of some neighbouring positions, each `[count, headDim / 2]`.
  func angles(positions: Range<Int>) -> RotaryAngles {
    var cosines: [Float] = []
    var sines: [Float] = []
    cosines.reserveCapacity(positions.count * frequencies.count)
    sines.reserveCapacity(positions.count * frequencies.count)
    for position in positions {
      for frequency in frequencies {
        // A float32 product, like the models were trained with.
        let angle = Float(position) * frequency
        cosines.append(cos(angle))
        sines.append(sin(angle))
      }
    }
    return RotaryAngles(pairs: frequencies.count, cosines: cosines, sines: sines)
  }
}

/// The rotation of some neighbouring positions.
struct RotaryAngles {
  let pairs: Int
  let cosines: [Float]
  let sines: [Float]

  /// Rotates rows in place, `[tokens, heads, headDim]`.
  func rotate(_ rows: inout [Float], heads: Int) {
    let headDim = 2 * pairs
    let tokens = cosines.count / pairs
    precondition(rows.count == tokens * heads * headDim)
    rows.withUnsafeMutableBufferPointer { rows in
      cosines.withUnsafeBufferPointer { cosines in
        sines.withUnsafeBufferPointer { sines in
          for token in 0..<tokens {
            for head in 0..<heads {
              let row = (token * heads + head) * headDim
              for pair in 0..<pairs {
                let cosine = cosines[token * pairs + pair]
                let sine = sines[token * pairs + pair]
                let first = rows[row + pair]
                let second = rows[row + pairs + pair]
                rows[row + pair] = first * cosine - second * sine
                rows[row + pairs + pair] = second * cosine + first * sine
              }
            }
          }
        }
      }
    }
  }
}

extension RotaryConfiguration.Scaling {
  /// The frequency that takes the place of a trained one.
  fileprivate func apply(to frequency: Double) -> Double {
    switch self {
    case .none:
      return frequency
    case .linear(let factor):
      return frequency / factor
    case .llama3(let factor, let lowFactor, let highFactor, let originalContext):
      let wavelength = 2 * Double.pi / frequency
      if wavelength < originalContext / highFactor { return frequency }
      if wavelength > originalContext / lowFactor { return frequency / factor }
      let smooth = (originalContext / wavelength - lowFactor) / (highFactor - lowFactor)
      return (1 - smooth) * frequency / factor + smooth * frequency
    }
  }
}
