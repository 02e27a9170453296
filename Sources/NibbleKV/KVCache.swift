internal import CNibble
import Dispatch
internal import Logging
public import NibbleCodec
public import NibblePolicy
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A paged key/value cache whose pages stay compressed.
///
/// One cache serves any number of sequences of one model. It obeys a `Plan`: one codec for every (layer, KV head, keys or
/// values). Pages are read by attention as they are; no full-precision copy of them exists.
public final class KVCache: Sendable {
  /// The policy, resolved against the model.
  public let plan: Plan
  /// The most bytes that the cache may hold.
  public let budget: ByteBudget

  let pool: PagePool
  let workers: Workers
  let layers: [LayerKernels]
  let scratch: ScratchStore
  let sealScratch: SealScratchStore
  let gatherer: StatisticsGatherer?
  let sequences = SequenceRegistry()
  let spill: SpillFile?
  let prefixes: PrefixIndex
  private let digest = Mutex<[UInt8]?>(nil)

  /// Most threads that a cache may use.
  public static let threadLimit = Plan.threadLimit

  /// Creates a cache.
  ///
  /// - Parameters:
  ///   - model: The model's shape.
  ///   - policy: What to compress, and how hard.
  ///   - budget: The most bytes to hold in memory, slabs and working memory included.
  ///   - prefixLimit: The most bytes of pages to keep for later prompts (``remember(_:)``), within the budget; `nil` takes a
  ///     quarter of it, or 1 GiB where there is none.
  ///   - disk: Where pages of idle sequences go when the budget is exhausted; `nil` keeps all in memory.
  ///   - threads: Threads that encode and attend, 1 to ``threadLimit``; `nil` takes one for each core.
  ///   - catalogue: The codecs that the policy may name, and the model's calibration.
  ///   - gathersStatistics: Whether to sum up the rows and queries that the cache sees, for ``calibration()``; it costs about as
  ///     much as an attention over `headDim` tokens and, for one position in sixteen, decoding the layer's rows; and 32 · headDim²
  ///     bytes for each layer and KV head, which the budget does not count. Nor does it count a calibration in use: 16 · headDim² bytes.
  /// - Throws: ``KVError/policy(_:)`` if the policy does not fit the model, ``KVError/invalidOption(name:value:expected:)``,
  ///   ``KVError/file(_:)`` if the disk tier cannot be made, or
  ///   ``KVError/budgetExceeded(neededBytes:heldBytes:limitBytes:)`` if not even the working memory fits.
  public init(
    model: ModelShape,
    policy: Policy,
    budget: ByteBudget = .unlimited,
    prefixLimit: ByteBudget? = nil,
    disk: DiskTier? = nil,
    threads: Int? = nil,
    catalogue: CodecCatalogue = .standard,
    gathersStatistics: Bool = false
  ) throws(KVError) {
    do throws(PolicyError) {
      plan = try Plan(policy: policy, shape: model, catalogue: catalogue)
    } catch {
      throw .policy(error)
    }
    let count = threads ?? min(Self.threadLimit, Self.coreCount)
    guard (1...Self.threadLimit).contains(count) else {
      throw .invalidOption(
        name: "threads",
        value: "\(count)",
        expected: "1 to \(Self.threadLimit)"
      )
    }
    let plan = self.plan
    self.budget = budget
    workers = Workers(count: count)
    pool = PagePool(budget: budget)
    layers = (0..<model.layers).map { LayerKernels(plan: plan, layer: $0) }
    sealScratch = SealScratchStore(plan: plan)
    gatherer = gathersStatistics ? StatisticsGatherer(plan: plan) : nil
    prefixes = PrefixIndex(
      plan: plan,
      byteLimit: Self.prefixBytes(limit: prefixLimit, budget: budget),
      telemetry: pool.telemetry
    )
    let telemetry = pool.telemetry
    spill = try disk.map { disk throws(KVError) in try SpillFile(disk, telemetry: telemetry) }
    scratch = try ScratchStore(pool: pool, workers: count, headDim: model.headDim)
    pool.setReclaimer { [weak self] in self?.reclaim() ?? false }
    if let refused = nibble_refused_isa() {
      let name = String(cString: refused)
      Logger(label: "nibblekv.cache").warning(
        "NIBBLE_ISA=\(name) is not possible here; using \(Self.instructionSet)"
      )
    }
  }

  /// The model's shape.
  public var shape: ModelShape { plan.shape }

  /// Threads that encode and attend.
  public var threadCount: Int { workers.count }

  /// The instruction set in use: `avx512`, `avx512vnni`, `avxvnni`, `avx2`, `i8mm`, `dotprod`, `neon` or `scalar`.
  ///
  /// The environment variable `NIBBLE_ISA` chooses another.
  public static var instructionSet: String { String(cString: nibble_isa()) }

  /// The calibration that all rows and queries seen so far lead to.
  ///
  /// It can serve new caches at once, or be written to a file. Tokens that were truncated count all the same.
  ///
  /// - Throws: ``KVError/codec(_:)`` if too few rows have been seen, and ``KVError/invalidOption(name:value:expected:)`` if the
  ///   cache does not gather statistics.
  /// - Complexity: O(layers · kvHeads · headDim³).
  public func calibration() throws(KVError) -> Calibration {
    guard let gatherer else {
      throw .invalidOption(name: "gathersStatistics", value: "false", expected: "true")
    }
    do throws(CodecError) {
      return try Calibration(statistics: gatherer.statistics, fingerprint: shape.fingerprint)
    } catch {
      throw .codec(error)
    }
  }

  /// The digest of the calibration in use, taken once; `nil` if there is none.
  var calibrationDigest: [UInt8]? {
    digest.withLock { digest in
      if digest == nil { digest = plan.calibration?.digest }
      return digest
    }
  }

  /// Makes an empty sequence.
  public func makeSequence() -> KVSequence {
    KVSequence(
      cache: self,
      state: SequenceState(layers: Array(repeating: LayerState(), count: layers.count))
    )
  }

  /// What the cache holds now.
  public var statistics: CacheStatistics {
    CacheStatistics(
      heldBytes: pool.heldBytes,
      pageCount: pool.pageCount,
      diskBytes: spill?.bytes.used ?? 0,
      diskPageBytes: spill?.bytes.pages ?? 0,
      sequenceCount: sequences.count,
      prefixes: prefixes.statistics,
      skipping: layers.reduce(.none) { $0 + ($1.skipping?.counts ?? .none) }
    )
  }

  private static var coreCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  func writer(layer: Int) -> LayerWriter {
    LayerWriter(
      plan: layers[layer].plan,
      geometry: layers[layer].geometry,
      pool: pool,
      workers: workers,
      scratch: sealScratch,
      phase: Double(layer) / Double(layers.count)
    )
  }
}
