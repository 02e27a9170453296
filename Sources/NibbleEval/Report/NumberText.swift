import Foundation

/// Numbers as people read them.
public enum NumberText {
  /// With a fixed number of decimals; a dash where there is no number.
  public static func decimal(_ value: Double?, _ decimals: Int) -> String {
    guard let value, value.isFinite else { return "-" }
    return String(format: "%.\(decimals)f", value)
  }

  /// Three significant digits, for numbers of any size.
  public static func significant(_ value: Double?) -> String {
    guard let value, value.isFinite else { return "-" }
    if value == 0 { return "0" }
    return abs(value) < 1e-4 ? String(format: "%.2e", value) : String(format: "%.3g", value)
  }

  /// Three significant digits in few letters, for axes: 0.001, 1e-5.
  static func short(_ value: Double) -> String {
    String(format: "%.3g", value).replacing("e-0", with: "e-").replacing("e+0", with: "e")
  }

  /// A number of things.
  static func count(_ count: Int, _ noun: String) -> String {
    "\(count) \(noun)\(count == 1 ? "" : "s")"
  }

  /// A share in percent.
  public static func percent(_ value: Double?) -> String {
    value.map { decimal($0 * 100, 1) + " %" } ?? "-"
  }

  /// Bytes in B, KiB, MiB, GiB or TiB.
  public static func bytes(_ count: Int) -> String {
    bytes(Double(count))
  }

  /// Bytes with four digits at most, so that powers of two are short.
  static func roundBytes(_ count: Double) -> String {
    bytes(count) { String(format: "%.4g", $0) }
  }

  /// Bytes in a second.
  public static func bandwidth(_ bytesPerSecond: Double) -> String {
    bytes(bytesPerSecond) + "/s"
  }

  /// Microseconds in µs, ms or s.
  public static func duration(microseconds: Double) -> String {
    switch microseconds {
    case ..<1_000: decimal(microseconds, 1) + " µs"
    case ..<1_000_000: decimal(microseconds / 1_000, 2) + " ms"
    default: decimal(microseconds / 1_000_000, 2) + " s"
    }
  }

  private static func bytes(
    _ count: Double,
    number: (Double) -> String = { decimal($0, 2) }
  ) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = count
    var unit = 0
    while value >= 1024, unit + 1 < units.count {
      value /= 1024
      unit += 1
    }
    return (unit == 0 ? decimal(value, 0) : number(value)) + " " + units[unit]
  }
}
