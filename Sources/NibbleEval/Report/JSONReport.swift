import Foundation

/// A list of rows, as JSON: `{"rows": […]}`.
public struct RowReport<Row: Encodable & Sendable>: Encodable, Sendable {
  /// The rows.
  public var rows: [Row]

  /// Creates a report.
  public init(rows: [Row]) {
    self.rows = rows
  }
}

/// Reports as JSON: one object, keys in alphabetical order.
public enum JSONReport {
  /// Encodes a report.
  ///
  /// - Throws: `EncodingError` for numbers that are not finite.
  public static func text(_ report: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(report), as: UTF8.self)
  }
}

/// A value that JSON shows as `null` where it does not exist, so that every field is always there.
@propertyWrapper
public struct Nullable<Value: Encodable & Hashable & Sendable>: Encodable, Hashable, Sendable {
  /// The value.
  public var wrappedValue: Value?

  /// Wraps a value.
  public init(wrappedValue: Value?) {
    self.wrappedValue = wrappedValue
  }

  /// Encodes the value or `null`.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let wrappedValue {
      try container.encode(wrappedValue)
    } else {
      try container.encodeNil()
    }
  }
}

extension Nullable: Decodable where Value: Decodable {
  /// Decodes a value or `null`.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    wrappedValue = container.decodeNil() ? nil : try container.decode(Value.self)
  }
}

/// A number that may not exist.
public typealias NullableNumber = Nullable<Double>
/// A text that may not exist.
public typealias NullableText = Nullable<String>
