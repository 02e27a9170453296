// CNibble: everything that touches packed codes.
//
// A page holds, for each KV head, one strip of keys and one strip of values. A strip is codes, a
// table and scales:
//
//   value[t][d] = (table[code[t][d]] - zero) * scale
//   scale       = table_scale * token_scale[group(d)][t] * channel_scale[block(t)][d]
//   zero        = table_zero + token_zero[group(d)][t] + channel_zero[block(t)][d]
//
// where parts that a codec does not use are 1 or 0. Strips of exact rows hold the values
// themselves. A strip may consist of parts: stretches of its channels whose codes have other bits.
// Specs/page-layout.md is the written form of what this header declares.
#ifndef CNIBBLE_H
#define CNIBBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Limits that the scratch memory is sized for.
enum {
  NIBBLE_MAX_CHANNELS = 512,
  NIBBLE_MAX_BLOCK_TOKENS = 64,
  NIBBLE_MAX_ROWS = 64,
  NIBBLE_TABLE_ENTRIES = 16,
  NIBBLE_TRELLIS_ENTRIES = 256,
  NIBBLE_CODEBOOKS = 8,
  NIBBLE_CODEBOOK_BLOCK = 8,  // channels of one token that share a codebook
  NIBBLE_MAX_PARTS = 8,
};

enum { NIBBLE_NEXT_PAGES = 2 };  // that attention fetches ahead

// How the elements of a strip are stored: the table kind of the attention skeleton's expand step.
typedef enum nibble_kind {
  NIBBLE_FLOAT32 = 0,
  NIBBLE_FLOAT16 = 1,
  NIBBLE_BFLOAT16 = 2,
  NIBBLE_INT8 = 3,
  NIBBLE_CODES4 = 4,
  NIBBLE_CODES3 = 5,
  NIBBLE_CODES2 = 6,
  NIBBLE_TRELLIS4 = 7,
  NIBBLE_TRELLIS3 = 8,
  NIBBLE_TRELLIS2 = 9,
  NIBBLE_TRELLIS1 = 10,
  // A codebook for each block of 8 channels of one token.
  NIBBLE_BLOCKS4 = 11,
  NIBBLE_BLOCKS3 = 12,
  NIBBLE_BLOCKS2 = 13,
  // A codebook for each channel of a block of tokens.
  NIBBLE_COLUMNS4 = 14,
  NIBBLE_COLUMNS3 = 15,
  NIBBLE_COLUMNS2 = 16,
  NIBBLE_KINDS = 17,
} nibble_kind;

typedef enum nibble_rule {
  NIBBLE_RULE_COPY = 0,        // exact rows
  NIBBLE_RULE_SYMMETRIC = 1,   // evenly spaced levels about zero
  NIBBLE_RULE_ZERO_POINT = 2,  // evenly spaced levels from the smallest to the largest value
  NIBBLE_RULE_FIXED = 3,       // scale = root mean square; nearest entry of the fixed table
  NIBBLE_RULE_FITTED = 4,      // a table fitted by k-means
  NIBBLE_RULE_TRELLIS = 5,     // the path through a trellis with the least squared error
  // As the first two, over the part of the range that leaves the least squared error.
  NIBBLE_RULE_SYMMETRIC_CLIPPED = 6,
  NIBBLE_RULE_ZERO_POINT_CLIPPED = 7,
  // scale = largest magnitude / 31; the codebook with the least squared error, its nearest entries
  NIBBLE_RULE_CODEBOOKS = 8,
} nibble_rule;

// The layout of one strip, or of one of its parts: they follow each other in an array, in the order
// of their channels. Offsets count bytes from the start of the strip's side data; -1 means absent.
typedef struct nibble_strip {
  int32_t kind;           // nibble_kind
  int32_t rule;           // nibble_rule: how codes are chosen
  int32_t levels;         // table entries in use
  int32_t is_values;      // 0 for keys, 1 for values
  int32_t tokens;         // of a page
  int32_t row_channels;   // head dimension, a multiple of 8
  int32_t parts;          // that follow in the array, this one included
  int32_t first_channel;  // of the part: a multiple of 16. Channels without a part have no codes
  int32_t channels;       // of the part: a multiple of 8
  int32_t code_offset;    // bytes from the start of the strip's codes
  int32_t block_tokens;   // tokens of one block: at most 64, a multiple of 16
  int32_t
      group_channels;  // channels whose codes lie together; without parts, they share a token scale
  int32_t token_scale;    // bfloat16 [groups][tokens]
  int32_t token_zero;     // float16  [groups][tokens]
  int32_t channel_scale;  // bfloat16 [blocks][channels]
  int32_t channel_zero;   // float16  [blocks][channels]
  int32_t table;          // int8 [16], float scale, float zero: a table fitted to this strip
  int32_t outliers;       // uint16 indices, then bfloat16 values, each [blocks][outlier_count]
  int32_t outlier_count;  // of each block; an index counts values of the block, row by row
  // Whether a token's one scale is fitted to the codes of all parts. Parts share it and
  // block_tokens.
  int32_t fits_scales;
  int32_t code_bytes;                        // of the part, a multiple of 64
  int32_t side_bytes;                        // of the whole strip, a multiple of 4
  int8_t fixed_table[NIBBLE_TABLE_ENTRIES];  // where `table` is -1
  float fixed_scale;
  float fixed_zero;
} nibble_strip;

// Fills in, for `count` parts of one strip, what follows from the rest: parts, first_channel,
// code_offset and code_bytes.
void nibble_strip_measure(nibble_strip *strip, int32_t count);

// Channels rounded up to the 16 lanes of a value tile.
static inline int32_t nibble_padded_channels(int32_t channels) { return (channels + 15) & ~15; }

// The constant table of a kind, or NULL where the strip has the table: 256 entries of a trellis,
// for data of unit variance, or NIBBLE_CODEBOOKS codebooks of NIBBLE_TABLE_ENTRIES entries each, of
// which those of fewer bits use the first ones.
const int8_t *nibble_constant_table(int32_t kind);
// The value of one unit of that table; 0 for other kinds.
float nibble_constant_unit(int32_t kind);

// ---- Encoding

// Encodes rows [tokens][row channels] (finite, already centred and rotated), which are overwritten,
// into codes and side data. `weights` [row channels], or NULL for ones: what a squared error of
// each channel counts, where the strip fits its scales. `metric` [row channels][row channels],
// symmetric, or NULL for the identity: errors e of a row count e^T metric e, where the strip has
// one table and one scale a token. `scratch` has nibble_encode_scratch_bytes(strip) bytes, aligned
// to 64.
void nibble_encode(const nibble_strip *strip, const float *weights, const float *metric,
                   float *rows, uint8_t *codes, uint8_t *side, void *scratch);
size_t nibble_encode_scratch_bytes(const nibble_strip *strip);

// Decodes tokens first ..< first + count into rows [count][row channels], by the formula above.
// Channels without codes are zeros.
void nibble_decode(const nibble_strip *strip, const uint8_t *codes, const uint8_t *side,
                   int32_t first, int32_t count, float *rows);

// Writes `count` rows [count][channels] (source rows `stride` floats apart) at token `first` of an
// exact strip.
void nibble_write_rows(const nibble_strip *strip, uint8_t *codes, int32_t first, int32_t count,
                       const float *rows, size_t stride);

// Exact weighted k-means in one dimension, over a histogram: `bins` weights at evenly spaced
// positions. Writes `levels` ascending centroids in units of bins. Dynamic programming with divide
// and conquer, O(levels * bins * log bins).
void nibble_kmeans_histogram(const double *weight, const double *moment, int32_t bins,
                             int32_t levels, double *centroids);

// The index of the first value that is not finite or whose magnitude exceeds `limit`, or -1.
ptrdiff_t nibble_first_outside(const float *values, size_t count, float limit);

// Widens or narrows rows of a 16-bit format.
void nibble_widen_float16(const uint16_t *source, size_t count, float *result);
void nibble_widen_bfloat16(const uint16_t *source, size_t count, float *result);

// ---- Rotation

// The random signed Hadamard transform of `rows` rows [channels], in place: H (signs * x),
// orthonormal. For head dimensions that are not a power of two, the odd factor is covered by a
// Hartley matrix.
void nibble_rotate(float *values, size_t rows, int32_t channels);
// Its inverse: signs * (H x).
void nibble_rotate_back(float *values, size_t rows, int32_t channels);

// A linear transform: result[row][i] = matrix[i] . rows[row], for vectors [count][channels].
void nibble_analyse(const float *matrix, int32_t count, int32_t channels, const float *rows,
                    size_t row_count, float *result);
// The sum of the vectors, each times its coefficient: result[channels] = sum of coefficients[i] *
// matrix[i].
void nibble_synthesize(const float *matrix, int32_t count, int32_t channels,
                       const float *coefficients, float *result);

// ---- Attention

// Consecutive pages of one layer with one layout, seen by one KV head.
typedef struct nibble_run {
  const uint8_t *const *pages;
  int32_t page_count;
  int32_t last_page_tokens;  // tokens present in the last page
  int32_t next_count;  // pages behind these that are worth fetching, at most NIBBLE_NEXT_PAGES
  const uint8_t *following;  // what is read after these pages where none is next, or NULL
  int32_t following_bytes;
  bool resumes;            // the partial result is that of the pages before: go on with it
  int64_t first_position;  // position of the first page's first token
  const nibble_strip *keys;
  const nibble_strip *values;
  size_t key_codes, key_side, value_codes, value_side;  // byte offsets in a page
} nibble_run;

// What a call may leave out. Counters are added to, one for each page, and for each stretch of up
// to 64 tokens and 16 rows.
typedef struct nibble_skip {
  float share;        // of a row's weight that one token may have and still be left out
  ptrdiff_t summary;  // byte offset of a page's summary, or -1: its pages are all attended to
  float *known;       // [count]: logarithms of sums of weights that are part of each row's total
  int64_t attended_pages, skipped_pages, attended_stretches, skipped_stretches;
} nibble_skip;

// The summary of a page's decoded keys [tokens][channels]: their centre, float16 [channels], and
// for every 16 channels the largest distance from it, bfloat16. Whole words of 4 bytes.
size_t nibble_summary_bytes(int32_t channels);
void nibble_summarize(const float *rows, int32_t tokens, int32_t channels, uint8_t *summary);

// Query rows of one KV head, in the space of the run's keys.
typedef struct nibble_rows {
  int32_t count;             // at most NIBBLE_MAX_ROWS
  const float *queries;      // [count][channels]
  const int64_t *positions;  // each row sees keys at positions <= its own
  const float *bias;  // [count], added to the unscaled scores (query times mean key), or NULL
  int64_t window;     // a row sees this many positions, its own included; 0 means all
  float scale;
  float soft_cap;     // 0 means none
  nibble_skip *skip;  // or NULL: nothing is left out
} nibble_rows;

// What attention over a run leaves: combine runs by their maxima. Overwritten, not accumulated.
typedef struct nibble_partial {
  float *maximum;      // [count]; -infinity where a row saw nothing
  float *sum;          // [count]
  float *accumulator;  // [count][padded channels], in the space of the run's values
} nibble_partial;

size_t nibble_attend_scratch_bytes(void);
// `scratch` is aligned to 64 and has nibble_attend_scratch_bytes() bytes.
void nibble_attend(const nibble_run *run, const nibble_rows *rows, const nibble_partial *partial,
                   void *scratch);

// result = result * a + source * b, over n floats.
void nibble_combine(float *result, float a, const float *source, float b, size_t n);
float nibble_dot(const float *a, const float *b, size_t n);

// ---- Instruction sets

// Names of the instruction sets that this machine can run, best first; ends with NULL. "scalar" is
// always there.
const char *const *nibble_available_isas(void);
// The one in use: the best, or the one that the environment variable NIBBLE_ISA names.
const char *nibble_isa(void);
// Chooses by name; false (and no change) if this machine cannot run it or does not know it.
bool nibble_select_isa(const char *name);
// What NIBBLE_ISA asked for that this machine could not give, or NULL.
const char *nibble_refused_isa(void);

// The integer kernels by instruction set, for tests: false if the machine cannot run `isa`.
// dot: out[rows][block_tokens] = sum over channels of (table + 128) * query, for one block of keys.
bool nibble_test_dot(const char *isa, nibble_kind kind, const uint8_t *codes, const int8_t *table,
                     int32_t block_tokens, int32_t channels, const int8_t *queries, int32_t rows,
                     int32_t *out);
// weigh: out[rows][padded channels] = sum over tokens of weight * table, for one block of values.
bool nibble_test_weigh(const char *isa, nibble_kind kind, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t padded_channels, const uint8_t *weights,
                       int32_t rows, int32_t *out);
// What no score of a page with this summary is above.
float nibble_test_score_bound(const nibble_rows *rows, int32_t row, int32_t channels,
                              const uint8_t *summary);

// ---- Threads

// Tells the processor that the thread is waiting for another, for some tens of cycles.
static inline void nibble_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

// ---- Measurement

// Reads `bytes` bytes (a multiple of 512) and returns the sum of their 64-bit words: plain read
// bandwidth.
uint64_t nibble_read_sum(const void *memory, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
