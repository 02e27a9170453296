import Synchronization

#if canImport(Accelerate)
import Accelerate
#else
import COpenBLAS
#endif

/// The one place that calls a BLAS.
package enum MatrixProduct {
  /// Whether a product replaces what stands in the output or adds to it.
  enum Mode {
    case replace
    case add
  }

  /// Multiplies rows by a matrix: `output[t, o] = sum over i of input[t, i] * weights[o, i]`.
  ///
  /// All extents are at most `Int32.max`; rows are `inputs` and `outputStride` floats apart.
  static func multiply(
    _ input: UnsafePointer<Float>,
    tokens: Int,
    inputs: Int,
    by weights: UnsafePointer<Float>,
    outputs: Int,
    into output: UnsafeMutablePointer<Float>,
    outputStride: Int,
    mode: Mode
  ) {
    let beta: Float = mode == .add ? 1 : 0
    if tokens == 1 {
      cblas_sgemv(
        CblasRowMajor,
        CblasNoTrans,
        Int32(outputs),
        Int32(inputs),
        1,
        weights,
        Int32(inputs),
        input,
        1,
        beta,
        output,
        1
      )
    } else {
      cblas_sgemm(
        CblasRowMajor,
        CblasNoTrans,
        CblasTrans,
        Int32(tokens),
        Int32(outputs),
        Int32(inputs),
        1,
        input,
        Int32(inputs),
        weights,
        Int32(inputs),
        beta,
        output,
        Int32(outputStride)
      )
    }
  }

  /// Chooses the BLAS threads for a model, once, when it is loaded.
  ///
  /// Products of small models are faster on one thread than after waking others, which then spin for more. The number
  /// of threads is a setting of the process.
  static func prepare(parameters: Int) {
    #if !canImport(Accelerate)
    if parameters < 64 << 20 { openblas_set_num_threads(1) }
    #endif
  }

  /// Runs `body` with one thread to a product, for callers that compute products on several threads themselves.
  ///
  /// The number of threads is a setting of the process.
  package static func withOneThread<Value>(_ body: () throws -> Value) rethrows -> Value {
    #if !canImport(Accelerate)
    singleThread.withLock { setting in
      if setting.users == 0 { setting.threads = openblas_get_num_threads() }
      setting.users += 1
      openblas_set_num_threads(1)
    }
    defer {
      singleThread.withLock { setting in
        setting.users -= 1
        if setting.users == 0 { openblas_set_num_threads(setting.threads) }
      }
    }
    #endif
    return try body()
  }

  #if !canImport(Accelerate)
  /// Callers that want one thread now, and what to go back to after the last of them.
  private static let singleThread = Mutex<(users: Int, threads: Int32)>((0, 1))
  #endif
}
