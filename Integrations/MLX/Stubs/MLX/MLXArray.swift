// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// Stands in for an array of MLX: a shape and numbers, kept as the type rounds them.
///
/// Of the interface of mlx-swift (revision 09051ed1) it has what this package and its tests use.
public final class MLXArray {
  public let shape: [Int]
  public let dtype: DType
  let numbers: [Float]

  init(numbers: [Float], shape: [Int], dtype: DType) {
    precondition(numbers.count == shape.reduce(1, *), "\(numbers.count) numbers of shape \(shape)")
    self.shape = shape
    self.dtype = dtype
    self.numbers = numbers.map(dtype.rounded)
  }

  public convenience init<T: HasDType>(
    _ value: [T],
    _ shape: (some Collection<Int>)? = [Int]?.none
  ) {
    self.init(
      numbers: value.map(\.number),
      shape: shape.map { Array($0) } ?? [value.count],
      dtype: T.dtype
    )
  }

  public var ndim: Int { shape.count }

  public func dim(_ dim: Int) -> Int { shape[dim < 0 ? dim + ndim : dim] }

  public func asType(_ type: DType, stream: StreamOrDevice = .default) -> MLXArray {
    type == dtype ? self : MLXArray(numbers: numbers, shape: shape, dtype: type)
  }

  public func asArray<T: HasDType>(_ type: T.Type) -> [T] { numbers.map(T.init(number:)) }

  public func transposed(_ axes: Int..., stream: StreamOrDevice = .default) -> MLXArray {
    let strides = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
    var places = [0]
    for axis in axes {
      places = places.flatMap { place in
        (0..<shape[axis]).map { place + $0 * strides[axis] }
      }
    }
    return MLXArray(
      numbers: places.map { numbers[$0] },
      shape: axes.map { shape[$0] },
      dtype: dtype
    )
  }
}

public func concatenated(
  _ arrays: some Collection<MLXArray>,
  axis: Int = 0,
  stream: StreamOrDevice = .default
) -> MLXArray {
  guard let first = arrays.first else { preconditionFailure("no arrays") }
  var shape = first.shape
  shape[axis] = arrays.reduce(0) { $0 + $1.shape[axis] }
  let outer = shape[..<axis].reduce(1, *)
  let numbers = (0..<outer).flatMap { index in
    arrays.flatMap { array in
      let run = array.shape[axis...].reduce(1, *)
      return array.numbers[(index * run)..<((index + 1) * run)]
    }
  }
  return MLXArray(numbers: numbers, shape: shape, dtype: first.dtype)
}

extension MLXArray {
  /// The first rows of a rank-4 array's third axis, which MLX writes `[.ellipsis, ..<count, 0...]`.
  public func prefix(rows count: Int) -> MLXArray {
    let run = dim(3)
    let numbers = (0..<(dim(0) * dim(1))).flatMap { index in
      let first = index * dim(2) * run
      return self.numbers[first..<(first + count * run)]
    }
    return MLXArray(numbers: numbers, shape: [dim(0), dim(1), count, run], dtype: dtype)
  }
}
