// The C interface of NibbleKV: a KV cache that stays compressed, for hosts that are not Swift.
//
// Calls that can fail return a status; nibble_last_error() then says what was wrong, with the
// values and the limits. A call that fails leaves its cache and its sequences as they were.
//
// Threads: a cache may be used from several threads, a sequence from one thread at a time; only
// nibble_sequence_save may go on while other calls use its sequence. Under a byte budget the
// library moves pages of sequences that are in no call, whichever thread asked for room. A child of
// fork() must not use what its parent made: threads do not follow.
//
// Ownership: handles are owned by the caller, and freed once, when no call uses them any more. A
// sequence keeps its cache alive, so the two may be freed in any order. Texts and arrays stay the
// caller's; nothing of them is needed after the call.
//
// Arrays are dense, outermost dimension first. Rows are float32 where nothing else is said; rotary
// positions are applied to keys and queries before they come here.
#ifndef NIBBLEKV_H
#define NIBBLEKV_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Grows when functions, fields or statuses are added; nothing is taken away or changes its meaning.
// So a library serves every caller with nibble_abi_version() >= NIBBLE_ABI_VERSION, where the first
// is that of the library and the second that of the header which the caller was compiled with.
#define NIBBLE_ABI_VERSION 4

typedef struct nibble_cache nibble_cache;
typedef struct nibble_sequence nibble_sequence;

typedef int32_t nibble_status;
enum {
  NIBBLE_OK = 0,
  NIBBLE_INVALID_ARGUMENT =
      1,  // a null pointer, a shape, a length, a layer or a value that is not finite
  NIBBLE_INVALID_POLICY = 2,  // the policy has a mistake or does not fit the shape
  NIBBLE_OVER_BUDGET = 3,     // the byte budget of the cache or its disk limit would be exceeded
  NIBBLE_FAILED = 4,          // anything else
  NIBBLE_FILE_FAILED = 5,     // a file cannot be read or written, is damaged, or is no session
  NIBBLE_OTHER_SESSION = 6    // a session of another model, another policy or another calibration
};

uint32_t nibble_abi_version(void);

// What was wrong with the last call of this thread that failed; "" when none has. Owned by the
// library and valid until the next call of this thread that fails.
const char *nibble_last_error(void);

typedef struct nibble_model_shape {
  uint32_t layers;  // attention layers
  uint32_t query_heads;
  uint32_t kv_heads;
  uint32_t head_dim;  // a multiple of 8, at most 512
} nibble_model_shape;

// Makes an empty cache.
//
// policy: a preset ("balanced"), the path of a policy file, a short form ("k=int8+v=linear:4"), or
// the text of
//   a policy in YAML or JSON, which has a line break or begins with a brace. NULL is "balanced".
// byte_budget: most bytes that the cache may hold, working memory included; 0 is no limit.
// threads: threads that one call uses; 0 chooses. Results do not depend on it.
nibble_status nibble_cache_create(const nibble_model_shape *shape, const char *policy,
                                  uint64_t byte_budget, uint32_t threads, nibble_cache **cache);

// How a cache is made. Set everything to 0 and struct_bytes to sizeof(nibble_cache_options), then
// what is wanted. Fields may be added at the end: a library that does not know a field which a
// caller sets refuses it.
typedef struct nibble_cache_options {
  uint64_t struct_bytes;
  const char *policy;       // as for nibble_cache_create
  uint64_t byte_budget;     // as for nibble_cache_create
  uint64_t threads;         // as for nibble_cache_create
  const char *fingerprint;  // what names the model's weights, up to the host; sessions of a model
                            // with another one, or with none, are refused; NULL is none
  uint64_t prefix_limit;    // most bytes of pages that are remembered for later prompts, within the
                            // budget; 0 is a quarter of it, or 1 GiB where there is none; less than
                            // a page, such as 1, remembers nothing
  const char *disk_folder;  // a folder that exists, for pages that the budget has no room for; they
                            // lie in a file without a name, which is gone with the cache or the
                            // process; NULL keeps all pages in memory
  uint64_t disk_limit;      // most bytes of that file; 0 is no limit
  // Since version 4:
  // A file of `nibble calibrate`, for policies with rotation=aligned or shaping=queries, which
  // refuse one of another shape or fingerprint; other policies do not look into it. Where
  // fingerprint is NULL it names the weights, and that it is this model's is not checked. NULL is
  // none.
  const char *calibration;
  // [layers], the newest tokens that each layer ever sees, 0 for all. Pages behind a window are
  // freed. NULL is all in every layer.
  const uint64_t *sliding_windows;
} nibble_cache_options;

// Makes an empty cache. NULL options are all 0.
nibble_status nibble_cache_create_with_options(const nibble_model_shape *shape,
                                               const nibble_cache_options *options,
                                               nibble_cache **cache);

// Frees the handle; NULL does nothing.
void nibble_cache_free(nibble_cache *cache);

typedef struct nibble_cache_statistics {
  uint64_t held_bytes;  // page slabs and working memory: what the budget limits
  uint64_t pages;       // pages in use, shared ones once
  uint64_t sequences;
  double
      bits_per_value;  // of compressed pages by the plan: codes, tables, scales, means and padding
  // Since version 2:
  uint64_t disk_bytes;            // of the disk tier's file that are in use
  uint64_t disk_page_bytes;       // of the pages that lie there; LZ4 makes some shorter
  uint64_t prefix_lookups;        // prompts that were looked up
  uint64_t prefix_hits;           // of those, prompts of which a beginning was found
  uint64_t prefix_reused_tokens;  // tokens that were found
  uint64_t prefix_sequences;      // sequences that are remembered
  uint64_t prefix_bytes;          // of their pages in memory; living sequences may share them
  uint64_t prefix_evictions;      // how often one was shortened or forgotten to make room
  // Since version 3:
  uint64_t page_tokens;  // tokens of a page, by the policy
} nibble_cache_statistics;

// Fills the first `struct_bytes` of `statistics`; pass sizeof(nibble_cache_statistics). Fields that
// an older library does not know stay as they are.
nibble_status nibble_cache_get_statistics(const nibble_cache *cache,
                                          nibble_cache_statistics *statistics,
                                          uint64_t struct_bytes);

// Makes an empty sequence in the cache.
nibble_status nibble_sequence_create(nibble_cache *cache, nibble_sequence **sequence);

// A copy that shares the sealed pages.
nibble_status nibble_sequence_fork(const nibble_sequence *sequence, nibble_sequence **branch);

// Frees the handle, and the pages that no other sequence shares; NULL does nothing.
void nibble_sequence_free(nibble_sequence *sequence);

// Appends the keys and values of `tokens` new tokens to one layer: [tokens, kv_heads, head_dim].
nibble_status nibble_sequence_append(nibble_sequence *sequence, uint32_t layer, uint64_t tokens,
                                     const float *keys, const float *values);

// The number formats of rows. (Since version 4.)
typedef int32_t nibble_row_format;
enum {
  NIBBLE_FLOAT32 = 0,
  NIBBLE_FLOAT16 = 1,  // IEEE half precision, two bytes
  NIBBLE_BFLOAT16 = 2  // the upper half of a float32, two bytes
};

// nibble_sequence_append for rows in another number format: the same as appending them widened to
// float32. (Since version 4.)
nibble_status nibble_sequence_append_rows(nibble_sequence *sequence, uint32_t layer,
                                          uint64_t tokens, nibble_row_format format,
                                          const void *keys, const void *values);

// Causal attention of the newest `tokens` tokens of one layer over all tokens of the layer.
//
// queries, output: [tokens, query_heads, head_dim]
// scale: factor of the scores; 0 is 1 / sqrt(head_dim).
// window: a query sees this many newest keys, its own among them; 0 is all. A query that would see
//   tokens which the layer's sliding window has dropped is refused.
// soft_cap: scores s become soft_cap * tanh(s / soft_cap); 0 is none.
nibble_status nibble_sequence_attend(nibble_sequence *sequence, uint32_t layer, uint64_t tokens,
                                     const float *queries, float scale, uint64_t window,
                                     float soft_cap, float *output);

// nibble_sequence_attend for several sequences of one cache, with the same results bit for bit; the
// threads share the work of all. (Since version 4.)
//
// sequences: [count]; they may differ in length. No other call may use them meanwhile.
// queries, output: [count, tokens, query_heads, head_dim]
nibble_status nibble_cache_attend(nibble_cache *cache, uint64_t count,
                                  nibble_sequence *const *sequences, uint32_t layer,
                                  uint64_t tokens, const float *queries, float scale,
                                  uint64_t window, float soft_cap, float *output);

// Decodes the first `tokens` tokens of one layer to rows as attention sees them, for hosts whose
// own attention must take over. It costs the memory that packed pages save, and takes longer than
// attention does. Rows that a sliding window has dropped are 0. (Since version 3.)
//
// keys, values: [tokens, kv_heads, head_dim]
nibble_status nibble_sequence_get_rows(const nibble_sequence *sequence, uint32_t layer,
                                       uint64_t tokens, float *keys, float *values);

// Drops all tokens after the first `tokens`, in all layers. What a sliding window has dropped does
// not come back: a layer that would have to attend to it is refused.
nibble_status nibble_sequence_truncate(nibble_sequence *sequence, uint64_t tokens);

typedef struct nibble_sequence_statistics {
  uint64_t tokens;             // tokens that every layer has
  uint64_t compressed_tokens;  // of those, tokens in compressed pages
  uint64_t page_bytes;
  uint64_t tail_bytes;
  uint64_t sink_bytes;
  uint64_t total_bytes;   // what the sequence holds: pages, tail and sinks
  uint64_t exact_bytes;   // float16 rows of the same tokens
  double bits_per_value;  // of the pages alone
  // Since version 2:
  uint64_t stored_pages;  // pages of all layers that lie in a file and not in memory
} nibble_sequence_statistics;

// Fills the first `struct_bytes` of `statistics`; pass sizeof(nibble_sequence_statistics). Fields
// that an older library does not know stay as they are.
nibble_status nibble_sequence_get_statistics(const nibble_sequence *sequence,
                                             nibble_sequence_statistics *statistics,
                                             uint64_t struct_bytes);

// ---- Token ids and prefixes (since version 2)

// Says which tokens the newest `tokens` rows belong to. Ids are what prompts are found by, and are
// saved with a sequence; attention does not need them. Ids that do not follow those which are known
// already are not kept.
//
// ids: [tokens], 0 or more. The layers must all have these tokens.
nibble_status nibble_sequence_record_tokens(nibble_sequence *sequence, uint64_t tokens,
                                            const int32_t *ids);

// Writes the first ids that are known, at most `capacity` of them, to `ids`, and how many are known
// to `known`.
//
// ids: [capacity]; NULL if capacity is 0.
nibble_status nibble_sequence_get_tokens(const nibble_sequence *sequence, uint64_t capacity,
                                         int32_t *ids, uint64_t *known);

// Remembers a sequence as it is now in its cache, for later prompts that begin like it; it shares
// the pages, and the sequence may be changed or freed afterwards. One some of whose ids are not
// known, whose layers differ in length, or that does not fill the sinks (or, without sinks, a page)
// is passed over.
nibble_status nibble_sequence_remember(const nibble_sequence *sequence);

// Makes a sequence that holds as much of a prompt as remembered ones have of its beginning. What is
// computed from there is bit for bit what it was, if a remembered sequence is a beginning of the
// prompt as a whole; else the rest of the prompt meets compressed pages where a new sequence would
// have had exact rows. nibble_sequence_get_statistics tells what it holds.
//
// ids: [tokens], the prompt, 0 or more each.
// leave: tokens at the end of the prompt that are left to compute in any case: 1 for the last one's
//   logits.
// found: receives how many tokens the sequence has; their ids are known. NULL if nobody asks.
nibble_status nibble_sequence_create_continuing(nibble_cache *cache, uint64_t tokens,
                                                const int32_t *ids, uint64_t leave,
                                                nibble_sequence **sequence, uint64_t *found);

// ---- Files (since version 2)

// Moves all pages of a sequence to the cache's disk tier, whose options must name a folder. The
// sequence stays usable: pages come back, or are read in place, when they are needed, with the same
// results bit for bit. Under a budget the cache moves pages of idle sequences by itself.
nibble_status nibble_sequence_move_to_disk(nibble_sequence *sequence);

// Saves a sequence to a session file (Specs/session-format.md). Whatever ends the process or the
// machine, the file then holds the session that was there before or this one. A sequence that was
// saved to the file or restored from it before appends what is new, unless the file would be half
// unused; otherwise a new file takes the place of the old one. Other calls may use the sequence
// meanwhile, but for nibble_sequence_truncate, which waits: saved is what it was at the start.
//
// path: its folder must exist.
// compresses_pages: 1 tries LZ4 on new pages; it takes time, and codes have little to compress.
nibble_status nibble_sequence_save(nibble_sequence *sequence, const char *path,
                                   uint32_t compresses_pages);

// Makes a sequence of a session file; it goes on as the one that was saved, bit for bit. Pages are
// read, and checked, when they are first used, so a damaged one is an error of the call that needs
// it. The file stays open for as long as pages of it are needed; it may be renamed or removed.
nibble_status nibble_sequence_restore(nibble_cache *cache, const char *path,
                                      nibble_sequence **sequence);

#ifdef __cplusplus
}
#endif

#endif
