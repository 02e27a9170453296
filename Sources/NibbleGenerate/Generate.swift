public import NibbleKV

/// Generates text token by token.
///
/// Nothing happens before the stream is read. Each step runs when the next token is asked for;
/// whoever stops asking, or is cancelled, leaves a store that holds whole steps: after a token was
/// delivered, the prompt and all tokens before that one.
///
/// - Parameters:
///   - model: The model.
///   - tokenizer: Its tokenizer.
///   - prompt: Text to continue; it follows what the store holds already.
///   - store: A sequence of a cache, or any other store of the model's shape.
///   - options: When to stop, how to choose, how to read the prompt.
/// - Returns: A stream that can be read once.
public func generate(
  model: any DecoderModel,
  tokenizer: any TextTokenizer,
  prompt: String,
  store: any KeyValueStore,
  options: GenerationOptions = GenerationOptions()
) -> TokenStream {
  stream(model, tokenizer, .text(prompt), .store(store), options)
}

/// Generates tokens after a prompt of token ids.
///
/// Like ``generate(model:tokenizer:prompt:store:options:)``. Without a tokenizer the tokens have no
/// text and stop strings never match.
public func generate(
  model: any DecoderModel,
  tokenizer: (any TextTokenizer)? = nil,
  promptTokens: [Int],
  store: any KeyValueStore,
  options: GenerationOptions = GenerationOptions()
) -> TokenStream {
  stream(model, tokenizer, .tokens(promptTokens), .store(store), options)
}

/// Generates text in a new sequence of a cache.
///
/// Like ``generate(model:tokenizer:prompt:store:options:)``. What the cache remembers of prompts that began alike is not computed again, and this
/// prompt and its continuation are remembered in turn (`KVCache.makeSequence(continuing:)`). The same prompt again gives the same
/// logits bit for bit.
public func generate(
  model: any DecoderModel,
  tokenizer: any TextTokenizer,
  prompt: String,
  cache: KVCache,
  options: GenerationOptions = GenerationOptions()
) -> TokenStream {
  stream(model, tokenizer, .text(prompt), .cache(cache), options)
}

/// Generates tokens after a prompt of token ids, in a new sequence of a cache.
///
/// Like ``generate(model:tokenizer:prompt:cache:options:)``. Without a tokenizer the tokens have no
/// text and stop strings never match.
public func generate(
  model: any DecoderModel,
  tokenizer: (any TextTokenizer)? = nil,
  promptTokens: [Int],
  cache: KVCache,
  options: GenerationOptions = GenerationOptions()
) -> TokenStream {
  stream(model, tokenizer, .tokens(promptTokens), .cache(cache), options)
}

private func stream(
  _ model: any DecoderModel,
  _ tokenizer: (any TextTokenizer)?,
  _ prompt: GenerationRequest.Prompt,
  _ place: GenerationRequest.Place,
  _ options: GenerationOptions
) -> TokenStream {
  TokenStream(
    request: GenerationRequest(
      model: model,
      tokenizer: tokenizer,
      prompt: prompt,
      place: place,
      options: options
    )
  )
}

/// All that a generation needs to begin.
struct GenerationRequest: Sendable {
  enum Prompt: Sendable {
    case text(String)
    case tokens([Int])
  }

  /// Where keys and values go.
  enum Place: Sendable {
    case store(any KeyValueStore)
    /// A new sequence, with what the cache remembers of the prompt.
    case cache(KVCache)

    var shape: ModelShape {
      switch self {
      case .store(let store): store.shape
      case .cache(let cache): cache.shape
      }
    }
  }

  let model: any DecoderModel
  let tokenizer: (any TextTokenizer)?
  let prompt: Prompt
  let place: Place
  let options: GenerationOptions
}
