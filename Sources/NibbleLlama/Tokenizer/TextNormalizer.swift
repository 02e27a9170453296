import Foundation

/// Brings text to the form that the vocabulary was made for.
struct TextNormalizer: Sendable {
  private enum Form: Sendable {
    case canonicalComposition
    case canonicalDecomposition
    case compatibilityComposition
    case compatibilityDecomposition
  }

  private var forms: [Form] = []

  init(_ component: TokenizerComponent?) throws(CheckpointError) {
    try append(component)
  }

  func normalize(_ text: String) -> String {
    forms.reduce(text) { text, form in
      switch form {
      case .canonicalComposition: text.precomposedStringWithCanonicalMapping
      case .canonicalDecomposition: text.decomposedStringWithCanonicalMapping
      case .compatibilityComposition: text.precomposedStringWithCompatibilityMapping
      case .compatibilityDecomposition: text.decomposedStringWithCompatibilityMapping
      }
    }
  }

  private mutating func append(_ component: TokenizerComponent?) throws(CheckpointError) {
    guard let component else { return }
    switch component.type {
    case "Sequence": for part in component.parts { try append(part) }
    case "NFC": forms.append(.canonicalComposition)
    case "NFD": forms.append(.canonicalDecomposition)
    case "NFKC": forms.append(.compatibilityComposition)
    case "NFKD": forms.append(.compatibilityDecomposition)
    default:
      throw .unsupported(
        what: "normalizer",
        value: component.type,
        supported: "NFC, NFD, NFKC, NFKD"
      )
    }
  }
}
