// The C interface of NibbleKV: a KV cache that stays compressed, for hosts that are not Swift.
//
// Calls that can fail return a status; nibble_last_error() then says what was wrong, with the
// values and the limits. A call that fails leaves its cache and its sequences as they were.
//
// Threads: a cache may be used from several threads, a sequence from one thread at a time. Handles
// are owned by the caller. A sequence keeps its cache alive, so the two may be freed in any order.
//
// Arrays are dense, outermost dimension first. Rows are float32; rotary positions are applied to
// keys and queries before they come here.
#ifndef NIBBLEKV_H
#define NIBBLEKV_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Grows when a function or a structure of this header changes in a way that old callers would
// notice. Compare it with nibble_abi_version(), which is that of the library.
#define NIBBLE_ABI_VERSION 1

typedef struct nibble_cache nibble_cache;
typedef struct nibble_sequence nibble_sequence;

typedef int32_t nibble_status;
enum {
  NIBBLE_OK = 0,
  NIBBLE_INVALID_ARGUMENT =
      1,  // a null pointer, a shape, a length, a layer or a value that is not finite
  NIBBLE_INVALID_POLICY = 2,  // the policy has a mistake or does not fit the shape
  NIBBLE_OVER_BUDGET = 3,     // the byte budget of the cache would be exceeded
  NIBBLE_FAILED = 4           // anything else
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

// Frees the handle; NULL does nothing.
void nibble_cache_free(nibble_cache *cache);

typedef struct nibble_cache_statistics {
  uint64_t held_bytes;  // page slabs and working memory: what the budget limits
  uint64_t pages;       // pages in use, shared ones once
  uint64_t sequences;
  double
      bits_per_value;  // of compressed pages by the plan: codes, tables, scales, means and padding
} nibble_cache_statistics;

// Fills the first `struct_bytes` of `statistics`; pass sizeof(nibble_cache_statistics).
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

// Causal attention of the newest `tokens` tokens of one layer over all tokens of the layer.
//
// queries, output: [tokens, query_heads, head_dim]
// scale: factor of the scores; 0 is 1 / sqrt(head_dim).
// window: a query sees this many newest keys, its own among them; 0 is all.
// soft_cap: scores s become soft_cap * tanh(s / soft_cap); 0 is none.
nibble_status nibble_sequence_attend(nibble_sequence *sequence, uint32_t layer, uint64_t tokens,
                                     const float *queries, float scale, uint64_t window,
                                     float soft_cap, float *output);

// Drops all tokens after the first `tokens`, in all layers.
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
} nibble_sequence_statistics;

// Fills the first `struct_bytes` of `statistics`; pass sizeof(nibble_sequence_statistics).
nibble_status nibble_sequence_get_statistics(const nibble_sequence *sequence,
                                             nibble_sequence_statistics *statistics,
                                             uint64_t struct_bytes);

#ifdef __cplusplus
}
#endif

#endif
