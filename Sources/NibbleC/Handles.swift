import NibbleKV

// A handle is a retained reference. The C side owns one count and gives it back in the `free` call.

func makeHandle(_ object: some AnyObject) -> OpaquePointer {
  OpaquePointer(Unmanaged.passRetained(object).toOpaque())
}

/// The object behind a handle.
///
/// - Throws: `CallError` when the handle is null.
func object<Object: AnyObject>(
  _ handle: OpaquePointer?,
  as type: Object.Type,
  _ name: String
) throws(CallError) -> Object {
  guard let handle else { throw CallError(description: "\(name) is NULL") }
  return Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

func freeHandle<Object: AnyObject>(_ handle: OpaquePointer?, as type: Object.Type) {
  guard let handle else { return }
  Unmanaged<Object>.fromOpaque(UnsafeRawPointer(handle)).release()
}

/// A pointer that the caller must give.
func required<Pointer>(_ pointer: Pointer?, _ name: String) throws(CallError) -> Pointer {
  guard let pointer else { throw CallError(description: "\(name) is NULL") }
  return pointer
}

/// A text that the caller gives.
///
/// - Throws: `CallError` when it is not UTF-8, so that a path is never mistaken for another one.
func text(_ pointer: UnsafePointer<CChar>, _ name: String) throws(CallError) -> String {
  guard let text = String(validatingCString: pointer) else {
    throw CallError(description: "\(name) is not UTF-8")
  }
  return text
}

/// A count from C as an `Int`.
func count(_ value: UInt64, _ name: String) throws(CallError) -> Int {
  guard let count = Int(exactly: value) else {
    throw CallError(description: "\(name) is \(value), more than \(Int.max)")
  }
  return count
}

/// The number of elements of `[tokens, heads, headDim]` rows.
func elementCount(tokens: Int, heads: Int, headDim: Int) throws(CallError) -> Int {
  let (elements, overflow) = tokens.multipliedReportingOverflow(by: heads * headDim)
  guard !overflow, elements <= Int.max / MemoryLayout<Float>.stride else {
    throw CallError(description: "\(tokens) tokens are more than memory can hold")
  }
  return elements
}
