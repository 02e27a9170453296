public import NibbleCodec

/// What a person asks for: which rows stay exact, and what all others are encoded with.
///
/// A policy knows nothing about a model. ``Plan`` resolves it against a ``ModelShape``.
public struct Policy: Hashable, Sendable {
  /// A change of the defaults for some layers and heads.
  ///
  /// Later rules win.
  public struct Rule: Hashable, Sendable {
    /// The attention layers that the rule applies to.
    public var layers: [IndexSelection]
    /// The KV heads that the rule applies to.
    public var kvHeads: [IndexSelection]
    /// What keys are encoded with; `nil` leaves them alone.
    public var keys: CodecDescription?
    /// What values are encoded with; `nil` leaves them alone.
    public var values: CodecDescription?

    var marks = SourceMarks()

    /// Creates a rule.
    ///
    /// At least one of `keys` and `values` is needed.
    public init(
      layers: [IndexSelection] = [.all],
      kvHeads: [IndexSelection] = [.all],
      keys: CodecDescription? = nil,
      values: CodecDescription? = nil
    ) {
      self.layers = layers
      self.kvHeads = kvHeads
      self.keys = keys
      self.values = values
    }
  }

  /// What pages become when they are old.
  public struct Age: Hashable, Sendable {
    /// Tokens: pages all of whose tokens are older than the newest `beyond` are encoded again.
    public var beyond: Int
    /// What keys are encoded with then; `nil` leaves them alone.
    public var keys: CodecDescription?
    /// What values are encoded with then; `nil` leaves them alone.
    public var values: CodecDescription?

    var marks = SourceMarks()

    /// Creates an age.
    ///
    /// At least one of `keys` and `values` is needed.
    public init(
      beyond: Int,
      keys: CodecDescription? = nil,
      values: CodecDescription? = nil
    ) {
      self.beyond = beyond
      self.keys = keys
      self.values = values
    }
  }

  /// The version of the written format.
  public var version: Int { Policy.formatVersion }
  /// A name for tables; see ``label``.
  public var name: String?
  /// Tokens of a page: 16, 32, 48 or a multiple of 64 up to 1,024.
  public var pageTokens: Int
  /// Tokens at the start of a sequence that stay exact for good, 0 to 1,024.
  public var sinks: Int
  /// Newest tokens that stay exact, 0 to 65,536.
  public var recent: Int
  /// What keys are encoded with, unless a rule says otherwise.
  public var keys: CodecDescription
  /// What values are encoded with, unless a rule says otherwise.
  public var values: CodecDescription
  /// The rows of sinks and tail: `float32`, `float16` or `bfloat16`.
  public var exact: CodecDescription
  /// The share of a query's softmax weight that attention may leave out to read fewer pages, 0 ..< 0.5; 0 reads all.
  ///
  /// Pages that provably have hardly any weight are left out, and values of tokens whose weights turn out small. The
  /// output then differs by at most `2 · skipBelow` times the largest norm of a value row or of a removed mean. Above 0, sealed
  /// pages of built-in codecs carry a summary of their keys: `2 · headDim + headDim / 8` bytes for each KV head.
  public var skipBelow: Double
  /// Changes for some layers and heads; later ones win.
  public var rules: [Rule]
  /// What pages become when they are old, the youngest age first, up to ``ageLimit``.
  ///
  /// A strip is encoded again if that makes it smaller; exact rows stay. Where a budget would be exceeded, pages may go to their next
  /// age before their time, the oldest first.
  public var ages: [Age]

  var marks = SourceMarks()

  /// Creates a policy.
  ///
  /// Nothing is checked here; ``validate()`` and ``Plan`` do that.
  ///
  /// - Parameters:
  ///   - name: A name for tables.
  ///   - keys: What keys are encoded with.
  ///   - values: What values are encoded with.
  ///   - exact: The rows of sinks and tail.
  ///   - pageTokens: Tokens of a page.
  ///   - sinks: Tokens at the start that stay exact.
  ///   - recent: Newest tokens that stay exact.
  ///   - skipBelow: The share of a query's softmax weight that attention may leave out.
  ///   - rules: Changes for some layers and heads.
  ///   - ages: What pages become when they are old.
  public init(
    name: String? = nil,
    keys: CodecDescription,
    values: CodecDescription,
    exact: CodecDescription = .float16,
    pageTokens: Int = 64,
    sinks: Int = 4,
    recent: Int = 64,
    skipBelow: Double = 0,
    rules: [Rule] = [],
    ages: [Age] = []
  ) {
    self.name = name
    self.pageTokens = pageTokens
    self.sinks = sinks
    self.recent = recent
    self.keys = keys
    self.values = values
    self.exact = exact
    self.skipBelow = skipBelow
    self.rules = rules
    self.ages = ages
  }

  /// The policy's name, or its file's, or what it does in a few words.
  public var label: String {
    if let name { return name }
    if let file = marks.file { return lastPathComponent(file) }
    return keys == values ? "\(keys)" : "k=\(keys)+v=\(values)"
  }

  /// What one side is encoded with unless a rule says otherwise.
  package func codec(_ side: KVSide) -> CodecDescription {
    switch side {
    case .keys: keys
    case .values: values
    }
  }
}

extension Policy.Rule {
  func codec(_ side: KVSide) -> CodecDescription? {
    switch side {
    case .keys: keys
    case .values: values
    }
  }
}

extension Policy.Age {
  func codec(_ side: KVSide) -> CodecDescription? {
    switch side {
    case .keys: keys
    case .values: values
    }
  }
}

func lastPathComponent(_ path: String) -> String {
  path.split(separator: "/").last.map(String.init) ?? path
}
