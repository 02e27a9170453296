// The kernels of attention over codes, for files that say what TARGET is, and DOT_QUADS if they
// can.

#include "avx2_products.h"

// ---- What a block is multiplied as

// Whether the kernels take blocks of this kind and shape as they are; others are expanded to signed
// bytes first, which stay in the nearest cache.
TARGET_INLINE bool takes_packed(int32_t kind, bool is_values, int32_t block_tokens) {
  if (kind == NIBBLE_INT8) return true;
  if (nibble_is_trellis(kind) || nibble_has_selectors(kind)) return false;
  return is_values ? block_tokens / 4 % nibble_unit_tiles(kind) == 0 : block_tokens == 64;
}

// Evenly spaced entries need no look-up.
TARGET_INLINE bool is_even(int32_t kind, const int8_t *table) {
  if (HAS_DOT_QUADS || kind == NIBBLE_INT8) return false;
  const __m256i places = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m256i entries =
      _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)table));
  const __m256i even =
      _mm256_add_epi16(_mm256_set1_epi16(table[0]),
                       _mm256_mullo_epi16(places, _mm256_set1_epi16((short)(table[1] - table[0]))));
  const int32_t levels = 1 << nibble_code_bits(kind);
  const uint32_t equal = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi16(entries, even));
  return (~equal & (uint32_t)((UINT64_C(1) << 2 * levels) - 1)) == 0;
}

// Codebooks of entries from -32 to 31 are small enough for sums of two quads.
TARGET_INLINE bool is_small(int32_t kind, const int8_t *table) {
  if (HAS_DOT_QUADS || !nibble_has_selectors(kind)) return false;
  __m256i outside = _mm256_setzero_si256();
  for (int32_t i = 0; i < NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES; i += 32)
    outside =
        _mm256_or_si256(outside, _mm256_add_epi8(load_bytes(table + i), _mm256_set1_epi8(32)));
  return _mm256_testz_si256(outside, _mm256_set1_epi8((char)0xc0));
}

// Sums of n quads of codes below 2^bits: 2 * 128 * n * (2^bits - 1) for keys and 2 * 255 * n *
// (2^bits - 1) for values are below 2^15.
TARGET_INLINE int32_t narrow_quads(int32_t bits, bool is_values) {
  return (is_values ? 4 : 8) << (4 - bits);
}

#define KERNEL_HAS_PREFERS_CODES
TARGET static bool prefers_codes(int32_t kind, bool is_values, int32_t block_tokens,
                                 const int8_t *table) {
  return takes_packed(kind, is_values, block_tokens) && is_even(kind, table);
}

// ---- Keys

// The entries of quad `q` of a step, for one pass. A pass of codes takes one half of the tiles
// 2 * pair and 2 * pair + 1 of each quad; one of signed bytes both halves of a tile.
TARGET_INLINE void load_key_entries(int32_t kind, bool is_narrow, int32_t blocks, int32_t pair,
                                    const uint8_t *step, int32_t q, __m256i table,
                                    __m256i entries[HALVES]) {
  for (int i = 0; i < HALVES; i++) {
    if (kind == NIBBLE_INT8) {
      entries[i] = load_bytes(step + q * blocks * 64 + i * 32);
      if (KEY_FLIP) entries[i] = _mm256_xor_si256(entries[i], _mm256_set1_epi8((char)KEY_FLIP));
    } else {
      const __m256i codes = load_codes(kind, step, q * 4 + 2 * pair + i);
      entries[i] = is_narrow ? codes : _mm256_shuffle_epi8(table, codes);
    }
  }
}

// Sums of one pass over all channels, `rows` (at most ROWS) rows, added to `out`.
TARGET_INLINE void dot_pass(int32_t kind, bool is_narrow, int32_t rows, int32_t blocks,
                            int32_t pair, const uint8_t *codes, __m256i table, int32_t quads,
                            entry_form form, const operand_rows *operands, int32_t *out,
                            nibble_feed *feed) {
  const int32_t bits = nibble_code_bits(kind), gap = kind == NIBBLE_INT8 ? 8 : 16,
                most = is_narrow ? form.quads : WIDE_QUADS;
  // Quads of a step, and its length.
  const int32_t unit = bits == 3 ? 2 : 1,
                bytes = unit * (kind == NIBBLE_INT8 ? blocks * 64 : bits * 32);
  const __m256i step = _mm256_set1_epi16((short)form.step);
  for (int32_t first = 0; first < quads; first += most) {
    const int32_t end = first + most < quads ? first + most : quads;
    sums sum;
    clear_sums(rows, &sum);
    for (int32_t quad = first; quad < end; quad += unit, codes += bytes) {
      // Four passes go over the same lines of a block of 64 tokens.
      if (quad % 2 == 0) nibble_fetch(feed, 1);
      for (int32_t q = 0; q < unit; q++) {
        __m256i entries[HALVES];
        load_key_entries(kind, is_narrow, blocks, pair, codes, q, table, entries);
        add_products(false, is_narrow, rows, entries, operands, quad + q, &sum);
      }
    }
    add_to_results(is_narrow, rows, &sum, step, out, NIBBLE_MAX_BLOCK_TOKENS, gap);
  }
}

// All passes of `rows` rows.
TARGET_INLINE void dot_passes(int32_t kind, bool is_narrow, int32_t rows, int32_t blocks,
                              const uint8_t *codes, __m256i table, int32_t quads, entry_form form,
                              const operand_rows *operands, int32_t *out, nibble_feed *feed) {
  if (kind == NIBBLE_INT8) {
    for (int32_t b = 0; b < blocks; b++)
      dot_pass(kind, is_narrow, rows, blocks, 0, codes + b * 64, table, quads, form, operands,
               out + b * 16, feed);
    return;
  }
  for (int32_t half = 0; half < 2; half++) {
    const uint8_t *start = codes + half * 32;
    dot_pass(kind, is_narrow, rows, 4, 0, start, table, quads, form, operands, out + half * 8,
             feed);
    dot_pass(kind, is_narrow, rows, 4, 1, start, table, quads, form, operands, out + 32 + half * 8,
             feed);
  }
}

TARGET_INLINE void dot_rows(int32_t kind, bool is_narrow, int32_t blocks, const uint8_t *codes,
                            const int8_t *table, int32_t channels, const int8_t *queries,
                            size_t stride, int32_t rows, entry_form form, int32_t *out,
                            nibble_feed *feed) {
  __m256i entries = _mm256_setzero_si256();
  if (kind != NIBBLE_INT8)
    entries = _mm256_xor_si256(load_entries(table), _mm256_set1_epi8((char)KEY_FLIP));
  operand_rows operands;
  for (int32_t row = 0; row < rows; row += ROWS, out += ROWS * NIBBLE_MAX_BLOCK_TOKENS) {
    const int32_t count = rows - row < ROWS ? rows - row : ROWS;
    for (int32_t r = 0; r < count; r++) {
      const uint8_t *query = (const uint8_t *)queries + (size_t)(row + r) * stride;
      load_operands(false, is_narrow, query, channels, operands.even[r], operands.odd[r]);
      // Keys count from -128.
      const int32_t offset = form.base + 128 - KEY_FLIP;
      const __m256i start =
          _mm256_set1_epi32(offset ? offset * sum_bytes(true, query, channels) : 0);
      for (int32_t t = 0; t < blocks * 16; t += 8)
        store_bytes(out + r * NIBBLE_MAX_BLOCK_TOKENS + t, start);
    }
    const int32_t quads = channels / 4;
    if (count == 4)
      dot_passes(kind, is_narrow, 4, blocks, codes, entries, quads, form, &operands, out, feed);
    else if (count == 3)
      dot_passes(kind, is_narrow, 3, blocks, codes, entries, quads, form, &operands, out, feed);
    else if (count == 2)
      dot_passes(kind, is_narrow, 2, blocks, codes, entries, quads, form, &operands, out, feed);
    else
      dot_passes(kind, is_narrow, 1, blocks, codes, entries, quads, form, &operands, out, feed);
  }
}

TARGET_INLINE void dot_blocks(int32_t kind, bool is_narrow, const uint8_t *codes,
                              const int8_t *table, int32_t block_tokens, int32_t channels,
                              const int8_t *queries, size_t stride, int32_t rows, entry_form form,
                              int32_t *out, nibble_feed *feed) {
  if (kind != NIBBLE_INT8 || block_tokens == 64)
    dot_rows(kind, is_narrow, 4, codes, table, channels, queries, stride, rows, form, out, feed);
  else
    dot_rows(kind, is_narrow, block_tokens / 16, codes, table, channels, queries, stride, rows,
             form, out, feed);
}

// ---- Values

// One column of 16 channels, both halves of its tiles.
TARGET_INLINE void weigh_column(int32_t kind, bool is_narrow, int32_t rows, const uint8_t *codes,
                                __m256i table, int32_t quads, entry_form form,
                                const operand_rows *operands, int32_t *out, int32_t stride,
                                nibble_feed *feed) {
  const int32_t unit = nibble_unit_tiles(kind), bytes = nibble_unit_bytes(kind),
                most = is_narrow ? form.quads : WIDE_QUADS;
  const __m256i step = _mm256_set1_epi16((short)form.step);
  for (int32_t first = 0; first < quads; first += most) {
    const int32_t end = first + most < quads ? first + most : quads;
    sums sum;
    clear_sums(rows, &sum);
    for (int32_t quad = first; quad < end; quad += unit, codes += bytes) {
      nibble_fetch(feed, bytes / 64);
      for (int32_t q = 0; q < unit; q++) {
        __m256i entries[HALVES];
        for (int i = 0; i < HALVES; i++) {
          entries[i] = load_codes(kind, codes + i * 32, q);
          if (kind != NIBBLE_INT8 && !is_narrow)
            entries[i] = _mm256_shuffle_epi8(table, entries[i]);
        }
        add_products(true, is_narrow, rows, entries, operands, quad + q, &sum);
      }
    }
    add_to_results(is_narrow, rows, &sum, step, out, stride, 8);
  }
}

TARGET_INLINE void weigh_columns(int32_t kind, bool is_narrow, int32_t rows, const uint8_t *codes,
                                 __m256i table, int32_t block_tokens, int32_t padded_channels,
                                 entry_form form, const operand_rows *operands, int32_t *out,
                                 nibble_feed *feed) {
  const int32_t column_bytes = block_tokens * 2 * nibble_code_bits(kind);
  for (int32_t d = 0; d < padded_channels; d += 16, codes += column_bytes)
    weigh_column(kind, is_narrow, rows, codes, table, block_tokens / 4, form, operands, out + d,
                 padded_channels, feed);
}

TARGET_INLINE void weigh_blocks(int32_t kind, bool is_narrow, const uint8_t *codes,
                                const int8_t *table, int32_t block_tokens, int32_t padded_channels,
                                const uint8_t *weights, int32_t rows, entry_form form, int32_t *out,
                                nibble_feed *feed) {
  const __m256i entries = kind == NIBBLE_INT8 ? _mm256_setzero_si256() : load_entries(table);
  operand_rows operands;
  for (int32_t row = 0; row < rows; row += ROWS, out += ROWS * padded_channels) {
    const int32_t count = rows - row < ROWS ? rows - row : ROWS;
    for (int32_t r = 0; r < count; r++) {
      const uint8_t *weight = weights + (row + r) * NIBBLE_MAX_BLOCK_TOKENS;
      load_operands(true, is_narrow, weight, block_tokens, operands.even[r], operands.odd[r]);
      const __m256i start =
          _mm256_set1_epi32(form.base ? form.base * sum_bytes(false, weight, block_tokens) : 0);
      for (int32_t d = 0; d < padded_channels; d += 8)
        store_bytes(out + r * padded_channels + d, start);
    }
    if (count == 4)
      weigh_columns(kind, is_narrow, 4, codes, entries, block_tokens, padded_channels, form,
                    &operands, out, feed);
    else if (count == 3)
      weigh_columns(kind, is_narrow, 3, codes, entries, block_tokens, padded_channels, form,
                    &operands, out, feed);
    else if (count == 2)
      weigh_columns(kind, is_narrow, 2, codes, entries, block_tokens, padded_channels, form,
                    &operands, out, feed);
    else
      weigh_columns(kind, is_narrow, 1, codes, entries, block_tokens, padded_channels, form,
                    &operands, out, feed);
  }
}

// ---- Any kind

enum { MAX_BLOCK_BYTES = NIBBLE_MAX_BLOCK_TOKENS * NIBBLE_MAX_CHANNELS };

typedef void fill_function(const uint8_t *codes, const int8_t *table, bool is_values,
                           int32_t block_tokens, int32_t channels, int8_t *out, nibble_feed *feed);

static nibble_dot_function dot_int8;
static nibble_weigh_function weigh_int8;

// Codebooks of small entries, counted from -32.
TARGET static void dot_small(fill_function *fill, const uint8_t *codes, const int8_t *table,
                             int32_t block_tokens, int32_t channels, const int8_t *queries,
                             size_t stride, int32_t rows, int32_t *out, nibble_feed *feed) {
  int8_t filled[MAX_BLOCK_BYTES], counted[NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES];
  for (int32_t i = 0; i < (int32_t)sizeof counted; i++) counted[i] = (int8_t)(table[i] + 32);
  fill(codes, counted, false, block_tokens, channels, filled, feed);
  const entry_form form = {.is_narrow = true, .base = -32, .step = 1, .quads = 2};
  dot_blocks(NIBBLE_INT8, true, (const uint8_t *)filled, NULL, block_tokens, channels, queries,
             stride, rows, form, out, feed);
}

TARGET static void dot_filled(fill_function *fill, const uint8_t *codes, const int8_t *table,
                              int32_t block_tokens, int32_t channels, const int8_t *queries,
                              size_t stride, int32_t rows, int32_t *out, nibble_feed *feed) {
  int8_t filled[MAX_BLOCK_BYTES];
  fill(codes, table, false, block_tokens, channels, filled, feed);
  dot_int8((const uint8_t *)filled, table, block_tokens, channels, queries, stride, rows, out,
           feed);
}

TARGET static void weigh_filled(fill_function *fill, bool is_narrow, const uint8_t *codes,
                                const int8_t *table, int32_t block_tokens, int32_t padded_channels,
                                const uint8_t *weights, int32_t rows, int32_t *out,
                                nibble_feed *feed) {
  int8_t filled[MAX_BLOCK_BYTES];
  fill(codes, table, true, block_tokens, padded_channels, filled, feed);
  const entry_form form = {.is_narrow = true, .step = 1, .quads = 2};
  if (is_narrow)
    weigh_blocks(NIBBLE_INT8, true, (const uint8_t *)filled, NULL, block_tokens, padded_channels,
                 weights, rows, form, out, feed);
  else
    weigh_int8((const uint8_t *)filled, table, block_tokens, padded_channels, weights, rows, out,
               feed);
}

TARGET_INLINE void dot(int32_t kind, fill_function *fill, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t channels, const int8_t *queries, size_t stride,
                       int32_t rows, int32_t *out, nibble_feed *feed) {
  entry_form form = {.step = 1};
  if (is_small(kind, table)) {
    dot_small(fill, codes, table, block_tokens, channels, queries, stride, rows, out, feed);
  } else if (!takes_packed(kind, false, block_tokens)) {
    dot_filled(fill, codes, table, block_tokens, channels, queries, stride, rows, out, feed);
  } else if (is_even(kind, table)) {
    form = (entry_form){true, table[0], table[1] - table[0],
                        narrow_quads(nibble_code_bits(kind), false)};
    dot_blocks(kind, true, codes, table, block_tokens, channels, queries, stride, rows, form, out,
               feed);
  } else {
    dot_blocks(kind, false, codes, table, block_tokens, channels, queries, stride, rows, form, out,
               feed);
  }
}

TARGET_INLINE void weigh(int32_t kind, fill_function *fill, const uint8_t *codes,
                         const int8_t *table, int32_t block_tokens, int32_t padded_channels,
                         const uint8_t *weights, int32_t rows, int32_t *out, nibble_feed *feed) {
  entry_form form = {.step = 1};
  if (!takes_packed(kind, true, block_tokens)) {
    weigh_filled(fill, is_small(kind, table), codes, table, block_tokens, padded_channels, weights,
                 rows, out, feed);
  } else if (is_even(kind, table)) {
    form = (entry_form){true, table[0], table[1] - table[0],
                        narrow_quads(nibble_code_bits(kind), true)};
    weigh_blocks(kind, true, codes, table, block_tokens, padded_channels, weights, rows, form, out,
                 feed);
  } else {
    weigh_blocks(kind, false, codes, table, block_tokens, padded_channels, weights, rows, form, out,
                 feed);
  }
}

#include "../integer_kernels.h"
