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
  TokenStream(
    request: GenerationRequest(
      model: model,
      tokenizer: tokenizer,
      prompt: .text(prompt),
      store: store,
      options: options
    )
  )
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
  TokenStream(
    request: GenerationRequest(
      model: model,
      tokenizer: tokenizer,
      prompt: .tokens(promptTokens),
      store: store,
      options: options
    )
  )
}

/// Generates text in a new sequence of a cache.
///
/// Like ``generate(model:tokenizer:prompt:store:options:)``; the sequence is gone with the stream.
public func generate(
  model: any DecoderModel,
  tokenizer: any TextTokenizer,
  prompt: String,
  cache: KVCache,
  options: GenerationOptions = GenerationOptions()
) -> TokenStream {
  generate(
    model: model,
    tokenizer: tokenizer,
    prompt: prompt,
    store: cache.makeSequence(),
    options: options
  )
}

/// All that a generation needs to begin.
struct GenerationRequest: Sendable {
  enum Prompt: Sendable {
    case text(String)
    case tokens([Int])
  }

  let model: any DecoderModel
  let tokenizer: (any TextTokenizer)?
  let prompt: Prompt
  let store: any KeyValueStore
  let options: GenerationOptions
}
