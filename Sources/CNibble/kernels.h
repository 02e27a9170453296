// The table of functions that each instruction set fills in.
#ifndef NIBBLE_KERNELS_H
#define NIBBLE_KERNELS_H

#include "layout.h"

#define NIBBLE_INLINE static inline __attribute__((always_inline))
// Before loops whose counter has to become a constant: shifts and masks of a tile's place.
#define NIBBLE_UNROLLED _Pragma("clang loop unroll(full)")

// The bytes that are needed next. A core has few reads under way at a time, and memory idles while
// it computes on what it has: so all kernels fetch them, line by line and evenly over their work.
// The next page comes to the nearest cache; the page after it to the second, from where the next
// step takes it without waiting for memory.
typedef struct nibble_feed {
  const uint8_t *next, *end;
  const uint8_t *after;  // the same line of the page after the next, or `next`
  int32_t rate;          // lines to fetch for every NIBBLE_FEED_UNIT units of work
  int32_t credit;        // what is left over of that
  bool may_skip;         // pages may be left out: whatever is left of one is not fetched
} nibble_feed;

enum { NIBBLE_FEED_UNIT = 16 };

NIBBLE_INLINE void nibble_fetch_line(nibble_feed *feed) {
  if (feed->next >= feed->end) return;
  __builtin_prefetch(feed->next, 0, 3);
  __builtin_prefetch(feed->after, 0, 2);
  feed->next += 64;
  feed->after += 64;
}

// What goes with `work` lines of codes that are read, or registers of results of the float parts.
NIBBLE_INLINE void nibble_fetch(nibble_feed *feed, int32_t work) {
  // Not in `feed` itself, which the compiler would write with every line.
  nibble_feed now = *feed;
  now.credit += work * now.rate;
  for (; now.credit >= NIBBLE_FEED_UNIT; now.credit -= NIBBLE_FEED_UNIT) nibble_fetch_line(&now);
  feed->next = now.next;
  feed->after = now.after;
  feed->credit = now.credit;
}

// One block of keys against `rows` int8 queries (`stride` bytes apart):
// out[row * NIBBLE_MAX_BLOCK_TOKENS + t] = sum over d of (table[code] + 128) * query[row][d].
typedef void nibble_dot_function(const uint8_t *codes, const int8_t *table, int32_t block_tokens,
                                 int32_t channels, const int8_t *queries, size_t stride,
                                 int32_t rows, int32_t *out, nibble_feed *feed);

// One block of values: out[row * padded_channels + d] = sum over t of weight[row][t] * table[code].
// Weights are NIBBLE_MAX_BLOCK_TOKENS apart.
typedef void nibble_weigh_function(const uint8_t *codes, const int8_t *table, int32_t block_tokens,
                                   int32_t padded_channels, const uint8_t *weights, int32_t rows,
                                   int32_t *out, nibble_feed *feed);

// The same over exact rows. Scores are overwritten, accumulators are added to.
typedef void nibble_dot_rows_function(const void *codes, int32_t block_tokens, int32_t channels,
                                      const float *queries, size_t stride, int32_t rows,
                                      float *scores, nibble_feed *feed);
typedef void nibble_weigh_rows_function(const void *codes, int32_t block_tokens,
                                        int32_t padded_channels, const float *weights, int32_t rows,
                                        float *accumulators, nibble_feed *feed);

// Codes as signed bytes in tile order (one byte each), so that many rows share one expansion.
typedef void nibble_expand_function(const uint8_t *codes, const int8_t *table, bool is_values,
                                    int32_t block_tokens, int32_t channels, int8_t *out);

// One step of the Viterbi algorithm for NIBBLE_CHAINS chains at once; all integers, so that every
// instruction set takes the same path. Windows w of eight bits lead from state w >> bits to state
// w & (states - 1); states = 2^(8 - bits). With x = samples[chain] and m = entries[w], both in
// 1/256 of a table unit:
//   d = x - m, saturated to 16 bits; c = min(old[w >> bits][chain] + (d * d + 2^14 >> 15), 65535)
//   fresh[s] = the least c of the windows that end in s, less the least of all states
//   from[s] = the bits that the best window drops, the smallest of equals
// `entries` holds each entry twice, for broadcasts of 32 bits.
enum { NIBBLE_CHAINS = 32 };
typedef void nibble_trellis_step_function(int32_t bits, const int16_t (*entries)[2],
                                          const int16_t *samples,
                                          const uint16_t (*old)[NIBBLE_CHAINS],
                                          uint16_t (*fresh)[NIBBLE_CHAINS],
                                          uint8_t (*from)[NIBBLE_CHAINS]);

// `kernels(name, kind)` for every kind of codes.
// clang-format off
#define NIBBLE_EACH_CODE_KIND(kernels) \
  kernels(int8, NIBBLE_INT8) \
  kernels(codes4, NIBBLE_CODES4) \
  kernels(codes3, NIBBLE_CODES3) \
  kernels(codes2, NIBBLE_CODES2) \
  kernels(trellis4, NIBBLE_TRELLIS4) \
  kernels(trellis3, NIBBLE_TRELLIS3) \
  kernels(trellis2, NIBBLE_TRELLIS2) \
  kernels(trellis1, NIBBLE_TRELLIS1) \
  kernels(blocks4, NIBBLE_BLOCKS4) \
  kernels(blocks3, NIBBLE_BLOCKS3) \
  kernels(blocks2, NIBBLE_BLOCKS2) \
  kernels(columns4, NIBBLE_COLUMNS4) \
  kernels(columns3, NIBBLE_COLUMNS3) \
  kernels(columns2, NIBBLE_COLUMNS2)
// clang-format on

struct nibble_score_finish;
struct nibble_weight_start;
struct nibble_value_finish;

typedef struct nibble_kernels {
  const char *name;
  nibble_dot_function *dot[NIBBLE_KINDS];
  nibble_weigh_function *weigh[NIBBLE_KINDS];
  nibble_expand_function *expand[NIBBLE_KINDS];
  // Whether many rows too are better multiplied with the codes than with their entries; NULL:
  // never.
  bool (*prefers_codes)(int32_t kind, bool is_values, int32_t block_tokens, const int8_t *table);
  nibble_dot_rows_function *dot_rows[NIBBLE_BFLOAT16 + 1];
  nibble_weigh_rows_function *weigh_rows[NIBBLE_BFLOAT16 + 1];

  // The float part of attention; see float_parts.h.
  void (*finish_scores)(const struct nibble_score_finish *chunk, nibble_feed *feed);
  void (*softmax)(float *scores, int32_t tokens, int32_t rows, const float *bias, float scale,
                  float *maximum, float *sum, float *factor, nibble_feed *feed);
  void (*start_weights)(struct nibble_weight_start *chunk, nibble_feed *feed);
  void (*finish_values)(const struct nibble_value_finish *chunk, nibble_feed *feed);
  void (*combine)(float *result, float a, const float *source, float b, size_t n);
  float (*dot_floats)(const float *a, const float *b, size_t n);
  void (*quantize_query)(const float *query, int32_t channels, bool halves, int8_t *high,
                         int8_t *low, float *scale);

  // Encoding.
  void (*narrow_float16)(const float *values, size_t count, uint16_t *result);
  void (*widen_float16)(const uint16_t *values, size_t count, float *result);
  // Signs, Hadamard transform, factor.
  void (*hadamard)(float *values, int32_t count, const float *signs, float factor);
  void (*nearest_entries)(const float *values, size_t count, float inverse_scale,
                          const float *thresholds, int32_t levels, uint8_t *codes);
  void (*even_levels)(const float *values, size_t count, float inverse_scale, float zero, float top,
                      uint8_t *codes);
  nibble_trellis_step_function *trellis_step;
} nibble_kernels;

extern const nibble_kernels nibble_scalar_kernels;
#if defined(__x86_64__)
extern const nibble_kernels nibble_avx512_kernels;
bool nibble_avx512_runs(void);
extern const nibble_kernels nibble_avx512vnni_kernels;
bool nibble_avx512vnni_runs(void);
extern const nibble_kernels nibble_avxvnni_kernels;
bool nibble_avxvnni_runs(void);
extern const nibble_kernels nibble_avx2_kernels;
bool nibble_avx2_runs(void);
#elif defined(__aarch64__)
extern const nibble_kernels nibble_i8mm_kernels;
bool nibble_i8mm_runs(void);
extern const nibble_kernels nibble_dotprod_kernels;
bool nibble_dotprod_runs(void);
extern const nibble_kernels nibble_neon_kernels;
#endif

const nibble_kernels *nibble_current_kernels(void);

#endif
