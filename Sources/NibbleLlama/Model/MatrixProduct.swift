#if canImport(Accelerate)
import Accelerate
#else
import COpenBLAS
#endif

/// The one place that calls a BLAS.
enum MatrixProduct {
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
    limitThreads(operations: tokens * inputs * outputs)
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

  #if canImport(Accelerate)
  private static func limitThreads(operations: Int) {}
  #else
  private static let mostThreads = openblas_get_num_threads()

  /// Small products are faster on one thread than after waking others, which then wait for more by spinning.
  private static func limitThreads(operations: Int) {
    openblas_set_num_threads(operations < 32 << 20 ? 1 : mostThreads)
  }
  #endif
}
