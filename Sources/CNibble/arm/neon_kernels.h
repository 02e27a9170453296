// The kernels of attention, for the files of this folder. Each says what TARGET is, how many ROWS
// pass through a block together, what the entries of values are flipped by (VALUE_FLIP), and how
// products are summed (add_quads, sums_of_row).

TARGET_INLINE sums no_sums(void) {
  const int32x4_t zero = vdupq_n_s32(0);
  return (sums){{zero, zero, zero, zero}};
}

// What entries count from, times the sum of a row's operands: keys from -128, values from where the
// flip puts them.
TARGET_INLINE int32_t offset_of(bool is_values, const uint8_t *operands, int32_t count) {
  int32_t sum = 0;
  if (is_values && VALUE_FLIP == 0) return 0;
  for (int32_t i = 0; i < count; i++) sum += is_values ? operands[i] : (int8_t)operands[i];
  return is_values ? -VALUE_FLIP * sum : 128 * sum;
}

// Of `rows` rows. Not inlined: it takes no time beside a block, and has dozens of callers.
TARGET static __attribute__((noinline)) void find_offsets(bool is_values, const uint8_t *operands,
                                                          size_t stride, int32_t rows,
                                                          int32_t count, int32_t *offsets) {
  for (int32_t r = 0; r < rows; r++, operands += stride)
    offsets[r] = is_values ? offset_of(true, operands, count) : offset_of(false, operands, count);
}

// Adds two quads of tiles with the operands from `at` on, which are `stride` apart by rows.
TARGET_INLINE void add_tiles(bool is_values, int32_t rows, const uint8x16_t quads[2],
                             const uint8_t *at, size_t stride, sums *sum) {
  uint8x8_t operands[ROWS];
  for (int r = 0; r < rows; r++) operands[r] = vld1_u8(at + (size_t)r * stride);
  add_quads(is_values, rows, quads, operands, sum);
}

TARGET_INLINE void store_sums(bool is_values, int32_t rows, const sums *sum, const int32_t *offsets,
                              int32_t *out, int32_t stride) {
  for (int r = 0; r < rows; r++)
    vst1q_s32(out + r * stride,
              vaddq_s32(sums_of_row(is_values, rows, sum, r), vdupq_n_s32(offsets[r])));
}

// ---- Keys

// `blocks` = tokens / 16 and `rows` (at most ROWS) are constants where this is inlined. A quarter
// of all tiles at a time: four tokens of each block of 16. Tile i of a step belongs to token block
// i % blocks and to channels 4 * (i / blocks) onwards.
TARGET_INLINE void dot_block(int32_t kind, int32_t blocks, int32_t rows, const uint8_t *codes,
                             const entry_table *table, int32_t channels, const uint8_t *queries,
                             size_t stride, int32_t *out, nibble_feed *feed) {
  const int32_t quads = kind == NIBBLE_INT8 ? 2 : STEP / blocks,
                lines = kind == NIBBLE_INT8 ? 2 * blocks : nibble_code_bits(kind);
  int32_t offsets[ROWS];
  find_offsets(false, queries, stride, rows, channels, offsets);
  for (int32_t quarter = 0; quarter < QUARTERS; quarter++) {
    sums sum[4] = {no_sums(), no_sums(), no_sums(), no_sums()};
    const uint8_t *step = codes + quarter * QUARTER_BYTES;
    for (int32_t d = 0; d < channels; d += quads * 4, step += lines * 64) {
      fetch_step(lines, quarter, feed);
      NIBBLE_UNROLLED
      for (int q = 0; q < quads; q += 2) {
        NIBBLE_UNROLLED
        for (int b = 0; b < blocks; b++) {
          const uint8x16_t tiles[2] = {load_entries(kind, step, q * blocks + b, table),
                                       load_entries(kind, step, (q + 1) * blocks + b, table)};
          add_tiles(false, rows, tiles, queries + d + q * 4, stride, &sum[b]);
        }
      }
    }
    for (int b = 0; b < blocks; b++)
      store_sums(false, rows, &sum[b], offsets, out + b * 16 + quarter * 4,
                 NIBBLE_MAX_BLOCK_TOKENS);
  }
}

TARGET_INLINE void dot_blocks(int32_t kind, int32_t blocks, const uint8_t *codes,
                              const int8_t *table, int32_t channels, const int8_t *signed_queries,
                              size_t stride, int32_t rows, int32_t *out, nibble_feed *feed) {
  const entry_table entries = load_table(kind, table, 0);
  const uint8_t *queries = (const uint8_t *)signed_queries;
  for (; rows >= ROWS; rows -= ROWS) {
    dot_block(kind, blocks, ROWS, codes, &entries, channels, queries, stride, out, feed);
    queries += ROWS * stride;
    out += ROWS * NIBBLE_MAX_BLOCK_TOKENS;
  }
  if (ROWS > 3 && rows == 3)
    dot_block(kind, blocks, 3, codes, &entries, channels, queries, stride, out, feed);
  else if (ROWS > 2 && rows == 2)
    dot_block(kind, blocks, 2, codes, &entries, channels, queries, stride, out, feed);
  else if (rows == 1)
    dot_block(kind, blocks, 1, codes, &entries, channels, queries, stride, out, feed);
}

// ---- Values

// One column of 16 channels, all four quarters of its tiles.
TARGET_INLINE void weigh_column(int32_t kind, int32_t rows, const uint8_t *codes,
                                const entry_table *table, int32_t block_tokens,
                                const uint8_t *weights, const int32_t *offsets, int32_t *out,
                                int32_t padded_channels, nibble_feed *feed) {
  const int32_t bits = nibble_code_bits(kind), tiles = bits == 3 ? STEP : STEP / 2,
                lines = bits == 3 ? bits : bits / 2;
  sums sum[QUARTERS] = {no_sums(), no_sums(), no_sums(), no_sums()};
  for (int32_t t = 0; t < block_tokens; t += tiles * 4, codes += lines * 64) {
    nibble_fetch(feed, lines);
    NIBBLE_UNROLLED
    for (int i = 0; i < tiles; i += 2) {
      NIBBLE_UNROLLED
      for (int quarter = 0; quarter < QUARTERS; quarter++) {
        const uint8_t *step = codes + quarter * QUARTER_BYTES;
        const uint8x16_t quads[2] = {load_entries(kind, step, i, table),
                                     load_entries(kind, step, i + 1, table)};
        add_tiles(true, rows, quads, weights + t + i * 4, NIBBLE_MAX_BLOCK_TOKENS, &sum[quarter]);
      }
    }
  }
  for (int quarter = 0; quarter < QUARTERS; quarter++)
    store_sums(true, rows, &sum[quarter], offsets, out + quarter * 4, padded_channels);
}

TARGET_INLINE void weigh_block(int32_t kind, int32_t rows, const uint8_t *codes,
                               const entry_table *table, int32_t block_tokens,
                               int32_t padded_channels, const uint8_t *weights, int32_t *out,
                               nibble_feed *feed) {
  const int32_t column_bytes = block_tokens * 2 * nibble_code_bits(kind);
  int32_t offsets[ROWS];
  find_offsets(true, weights, NIBBLE_MAX_BLOCK_TOKENS, rows, block_tokens, offsets);
  for (int32_t d = 0; d < padded_channels; d += 16, codes += column_bytes)
    weigh_column(kind, rows, codes, table, block_tokens, weights, offsets, out + d, padded_channels,
                 feed);
}

TARGET_INLINE void weigh_blocks(int32_t kind, const uint8_t *codes, const int8_t *table,
                                int32_t block_tokens, int32_t padded_channels,
                                const uint8_t *weights, int32_t rows, int32_t *out,
                                nibble_feed *feed) {
  const entry_table t = load_table(kind, table, VALUE_FLIP);
  for (; rows >= ROWS; rows -= ROWS) {
    weigh_block(kind, ROWS, codes, &t, block_tokens, padded_channels, weights, out, feed);
    weights += ROWS * NIBBLE_MAX_BLOCK_TOKENS;
    out += ROWS * padded_channels;
  }
  if (ROWS > 3 && rows == 3)
    weigh_block(kind, 3, codes, &t, block_tokens, padded_channels, weights, out, feed);
  else if (ROWS > 2 && rows == 2)
    weigh_block(kind, 2, codes, &t, block_tokens, padded_channels, weights, out, feed);
  else if (rows == 1)
    weigh_block(kind, 1, codes, &t, block_tokens, padded_channels, weights, out, feed);
}

// ---- Blocks that are expanded first

// A trellis and codebooks need most registers for their tables, and some shapes are no whole number
// of steps: their blocks are expanded to signed bytes, which stay in the nearest cache.
enum { MAX_BLOCK_BYTES = NIBBLE_MAX_BLOCK_TOKENS * NIBBLE_MAX_CHANNELS };

typedef void fill_function(const uint8_t *codes, const int8_t *table, bool is_values,
                           int32_t block_tokens, int32_t channels, int8_t *out, nibble_feed *feed);

static nibble_dot_function dot_int8;
static nibble_weigh_function weigh_int8;

static void dot_filled(fill_function *fill, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t channels, const int8_t *queries, size_t stride,
                       int32_t rows, int32_t *out, nibble_feed *feed) {
  int8_t filled[MAX_BLOCK_BYTES];
  fill(codes, table, false, block_tokens, channels, filled, feed);
  dot_int8((const uint8_t *)filled, table, block_tokens, channels, queries, stride, rows, out,
           feed);
}

static void weigh_filled(fill_function *fill, const uint8_t *codes, const int8_t *table,
                         int32_t block_tokens, int32_t padded_channels, const uint8_t *weights,
                         int32_t rows, int32_t *out, nibble_feed *feed) {
  int8_t filled[MAX_BLOCK_BYTES];
  fill(codes, table, true, block_tokens, padded_channels, filled, feed);
  weigh_int8((const uint8_t *)filled, table, block_tokens, padded_channels, weights, rows, out,
             feed);
}

// Whether the kernels take blocks of this kind and shape as they are.
TARGET_INLINE bool takes_packed(int32_t kind, bool is_values, int32_t block_tokens,
                                int32_t channels) {
  if (kind == NIBBLE_INT8) return true;
  if (nibble_is_trellis(kind) || nibble_has_selectors(kind)) return false;
  if (is_values) return nibble_code_bits(kind) != 3 || block_tokens % 32 == 0;
  return block_tokens != 48 && channels * block_tokens % 512 == 0;
}

TARGET_INLINE void dot(int32_t kind, fill_function *fill, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t channels, const int8_t *queries, size_t stride,
                       int32_t rows, int32_t *out, nibble_feed *feed) {
  if (!takes_packed(kind, false, block_tokens, channels))
    dot_filled(fill, codes, table, block_tokens, channels, queries, stride, rows, out, feed);
  else if (block_tokens == 64)
    dot_blocks(kind, 4, codes, table, channels, queries, stride, rows, out, feed);
  else if (block_tokens == 32)
    dot_blocks(kind, 2, codes, table, channels, queries, stride, rows, out, feed);
  else if (block_tokens == 16)
    dot_blocks(kind, 1, codes, table, channels, queries, stride, rows, out, feed);
  else if (kind == NIBBLE_INT8)
    dot_blocks(NIBBLE_INT8, 3, codes, table, channels, queries, stride, rows, out, feed);
}

TARGET_INLINE void weigh(int32_t kind, fill_function *fill, const uint8_t *codes,
                         const int8_t *table, int32_t block_tokens, int32_t padded_channels,
                         const uint8_t *weights, int32_t rows, int32_t *out, nibble_feed *feed) {
  if (takes_packed(kind, true, block_tokens, padded_channels))
    weigh_blocks(kind, codes, table, block_tokens, padded_channels, weights, rows, out, feed);
  else
    weigh_filled(fill, codes, table, block_tokens, padded_channels, weights, rows, out, feed);
}

#include "../integer_kernels.h"
