package import NibbleFiles

extension SessionFile {
  /// Longer pages are not expanded: nobody has such pages, and a file may say anything.
  private static let expandedLimit = 64 << 20

  /// Reads all pages, and says what is wrong; empty if the file is whole.
  ///
  /// - Complexity: O(bytes of the file).
  package func faults() -> [FileError] {
    var faults: [FileError] = []
    if let passedOver { faults.append(passedOver) }
    for layer in index.layers {
      for (number, page) in layer.storedPages {
        if let fault = fault(of: page, byteCount: layer.byteCount(ofPage: number)) {
          faults.append(fault)
        }
      }
    }
    return faults
  }

  private func fault(of page: SessionIndex.Page, byteCount: Int) -> FileError? {
    func damaged(_ what: String) -> FileError {
      .damaged(file: file.path, what: what, offset: UInt64(page.offset))
    }
    let bytes: [UInt8]
    do throws(FileError) {
      bytes = try file.bytes(page.offset..<page.offset + page.storedBytes)
    } catch {
      return error
    }
    guard bytes.withUnsafeBytes({ PageChecksum(of: $0) }) == page.checksum else {
      return damaged("a page's checksum")
    }
    guard page.encoding != .raw, byteCount <= Self.expandedLimit else { return nil }
    do throws(LosslessBlock.Failure) {
      _ = try LosslessBlock(encoding: page.encoding, bytes: bytes).expanded(byteCount: byteCount)
      return nil
    } catch {
      switch error {
      case .unavailable: return nil
      case .damaged: return damaged("a page's LZ4 frame")
      }
    }
  }
}
