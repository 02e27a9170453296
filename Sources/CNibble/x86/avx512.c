// AVX-512 with VNNI, VBMI and GFNI: 64 table look-ups by one byte shuffle, 64 products by one dot
// product.
#if defined(__x86_64__)

#include <string.h>

#include "../float_parts.h"

// NIBBLE_EMULATED_AVX512 names a header that stands in for the instructions, so that these kernels
// are tested on machines that lack them.
#if defined(NIBBLE_EMULATED_AVX512)
#include NIBBLE_EMULATED_AVX512
#define TARGET
bool nibble_avx512_runs(void) { return true; }
#else
#include <immintrin.h>
#define TARGET                                                                                     \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni,f16c,"      \
                        "fma")))

bool nibble_avx512_runs(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("gfni") && __builtin_cpu_supports("fma");
}
#endif

#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET

#include "avx512_expand.h"

// ---- Keys

TARGET_INLINE int32_t load_quad(const void *bytes) {
  int32_t quad;
  memcpy(&quad, bytes, sizeof quad);
  return quad;
}

// `blocks` = tokens / 16 and `rows` (at most 4) are constants where this is inlined. Tile i of a
// step belongs to token block i % blocks and to channels 4 * (i / blocks) onwards.
TARGET_INLINE void dot_block(int32_t kind, int32_t blocks, int32_t rows, const uint8_t *codes,
                             expander table, int32_t channels, const int8_t *queries, size_t stride,
                             int32_t *out, nibble_feed *feed) {
  __m512i sum[4][4];
  for (int r = 0; r < rows; r++)
    for (int b = 0; b < blocks; b++) sum[r][b] = _mm512_setzero_si512();
  const int32_t step_channels = STEP / blocks * 4;
  begin_after(kind, codes + channels / step_channels * step_lines(kind) * 64, &table);
  begin_selectors(kind, blocks, codes, blocks * 16, channels, 0, &table);
  for (int32_t d = 0; d < channels; d += step_channels) {
    __m512i tiles[STEP];
    expand_step(kind, blocks, codes, &table, feed, tiles);
    codes += step_lines(kind) * 64;
    for (int r = 0; r < rows; r++)
      for (int q = 0; q < STEP / blocks; q++) {
        const __m512i query = _mm512_set1_epi32(load_quad(queries + r * stride + d + q * 4));
        for (int b = 0; b < blocks; b++)
          sum[r][b] = _mm512_dpbusd_epi32(sum[r][b], tiles[q * blocks + b], query);
      }
  }
  for (int r = 0; r < rows; r++)
    for (int b = 0; b < blocks; b++)
      _mm512_storeu_si512(out + r * NIBBLE_MAX_BLOCK_TOKENS + b * 16, sum[r][b]);
}

TARGET_INLINE void dot_blocks(int32_t kind, int32_t blocks, const uint8_t *codes, expander table,
                              int32_t channels, const int8_t *queries, size_t stride, int32_t rows,
                              int32_t *out, nibble_feed *feed) {
  int32_t r = 0;
  for (; r + 4 <= rows; r += 4)
    dot_block(kind, blocks, 4, codes, table, channels, queries + r * stride, stride,
              out + r * NIBBLE_MAX_BLOCK_TOKENS, feed);
  if (rows - r == 3)
    dot_block(kind, blocks, 3, codes, table, channels, queries + r * stride, stride,
              out + r * NIBBLE_MAX_BLOCK_TOKENS, feed);
  else if (rows - r == 2)
    dot_block(kind, blocks, 2, codes, table, channels, queries + r * stride, stride,
              out + r * NIBBLE_MAX_BLOCK_TOKENS, feed);
  else if (rows - r == 1)
    dot_block(kind, blocks, 1, codes, table, channels, queries + r * stride, stride,
              out + r * NIBBLE_MAX_BLOCK_TOKENS, feed);
}

// ---- Values

// `columns` (1 or 2) columns of 16 channels, from column `first` of a block, and `rows` rows of
// `block_tokens` (32 or 64) tokens.
TARGET_INLINE void weigh_columns(int32_t kind, int32_t columns, int32_t rows, const uint8_t *block,
                                 expander table, int32_t block_tokens, int32_t padded_channels,
                                 int32_t first, const uint8_t *weights, int32_t *out,
                                 nibble_feed *feed) {
  const int32_t column_bytes = block_tokens / 4 / STEP * step_lines(kind) * 64;
  const uint8_t *codes = block + first * column_bytes;
  expander expanders[2] = {table, table};
  for (int c = 0; c < columns; c++) {
    // A chain runs through all columns and around.
    const int32_t before = first + c > 0 ? first + c : padded_channels / 16;
    begin_after(kind, block + before * column_bytes, &expanders[c]);
    begin_selectors(kind, 0, block, block_tokens, padded_channels, (first + c) * (block_tokens / 4),
                    &expanders[c]);
  }
  __m512i sum[4][2][2];
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) sum[r][c][0] = sum[r][c][1] = _mm512_setzero_si512();
  for (int32_t t = 0; t < block_tokens; t += 4 * STEP) {
    __m512i tiles[2][STEP];
    for (int c = 0; c < columns; c++)
      expand_step(kind, 0, codes + c * column_bytes, &expanders[c], feed, tiles[c]);
    codes += step_lines(kind) * 64;
    // Even and odd tiles have sums of their own: enough independent chains. Two columns leave
    // registers for the odd ones of one row.
    for (int r = 0; r < rows; r++) {
      for (int i = 0; i < STEP; i++) {
        const __m512i weight =
            _mm512_set1_epi32(load_quad(weights + r * NIBBLE_MAX_BLOCK_TOKENS + t + i * 4));
        for (int c = 0; c < columns; c++)
          sum[r][c][i & 1] = _mm512_dpbusd_epi32(sum[r][c][i & 1], weight, tiles[c][i]);
      }
      if (columns == 1) continue;
      for (int c = 0; c < columns; c++) {
        sum[r][c][0] = _mm512_add_epi32(sum[r][c][0], sum[r][c][1]);
        sum[r][c][1] = _mm512_setzero_si512();
      }
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++)
      _mm512_storeu_si512(out + r * padded_channels + c * 16,
                          _mm512_add_epi32(sum[r][c][0], sum[r][c][1]));
}

TARGET_INLINE void weigh_rows_of(int32_t kind, int32_t rows, const uint8_t *codes, expander table,
                                 int32_t block_tokens, int32_t padded_channels,
                                 const uint8_t *weights, int32_t *out, nibble_feed *feed) {
  // The tables of a trellis leave registers for one column.
  const int32_t step = nibble_is_trellis(kind) ? 16 : 32;
  for (int32_t d = 0; d < padded_channels; d += step)
    if (d + 32 <= padded_channels && step == 32)
      weigh_columns(kind, 2, rows, codes, table, block_tokens, padded_channels, d / 16, weights,
                    out + d, feed);
    else
      weigh_columns(kind, 1, rows, codes, table, block_tokens, padded_channels, d / 16, weights,
                    out + d, feed);
}

TARGET_INLINE void weigh_block(int32_t kind, const uint8_t *codes, expander table,
                               int32_t block_tokens, int32_t padded_channels,
                               const uint8_t *weights, int32_t rows, int32_t *out,
                               nibble_feed *feed) {
  int32_t r = 0;
  for (; r + 4 <= rows; r += 4)
    weigh_rows_of(kind, 4, codes, table, block_tokens, padded_channels,
                  weights + r * NIBBLE_MAX_BLOCK_TOKENS, out + r * padded_channels, feed);
  for (; r + 2 <= rows; r += 2)
    weigh_rows_of(kind, 2, codes, table, block_tokens, padded_channels,
                  weights + r * NIBBLE_MAX_BLOCK_TOKENS, out + r * padded_channels, feed);
  if (r < rows)
    weigh_rows_of(kind, 1, codes, table, block_tokens, padded_channels,
                  weights + r * NIBBLE_MAX_BLOCK_TOKENS, out + r * padded_channels, feed);
}

// ---- Blocks for many rows

TARGET_INLINE void expand_whole(int32_t kind, int32_t blocks, const uint8_t *codes, expander table,
                                int32_t block_tokens, int32_t channels, int32_t tiles,
                                int8_t *out) {
  const uint8_t *block = codes;
  nibble_feed none = {0};
  begin_after(kind, codes + tiles / STEP * step_lines(kind) * 64, &table);
  for (int32_t tile = 0; tile < tiles; tile += STEP) {
    __m512i step[STEP];
    begin_selectors(kind, blocks, block, block_tokens, channels, tile, &table);
    expand_step(kind, blocks, codes, &table, &none, step);
    codes += step_lines(kind) * 64;
    for (int i = 0; i < STEP; i++) _mm512_storeu_si512(out + (tile + i) * 64, step[i]);
  }
}

#define INTEGER_KERNELS(name, kind)                                                                \
  TARGET static void dot_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens,   \
                                int32_t channels, const int8_t *queries, size_t stride,            \
                                int32_t rows, int32_t *out, nibble_feed *feed) {                   \
    const expander entries = load_table(kind, table, true);                                        \
    if (block_tokens == 64)                                                                        \
      dot_blocks(kind, 4, codes, entries, channels, queries, stride, rows, out, feed);             \
    else if (block_tokens == 32 && channels % 16 == 0)                                             \
      dot_blocks(kind, 2, codes, entries, channels, queries, stride, rows, out, feed);             \
    else if (block_tokens == 16 && channels % 32 == 0)                                             \
      dot_blocks(kind, 1, codes, entries, channels, queries, stride, rows, out, feed);             \
    else                                                                                           \
      nibble_scalar_kernels.dot[kind](codes, table, block_tokens, channels, queries, stride, rows, \
                                      out, feed);                                                  \
  }                                                                                                \
  TARGET static void weigh_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens, \
                                  int32_t padded_channels, const uint8_t *weights, int32_t rows,   \
                                  int32_t *out, nibble_feed *feed) {                               \
    if (block_tokens % 32 == 0)                                                                    \
      weigh_block(kind, codes, load_table(kind, table, false), block_tokens, padded_channels,      \
                  weights, rows, out, feed);                                                       \
    else                                                                                           \
      nibble_scalar_kernels.weigh[kind](codes, table, block_tokens, padded_channels, weights,      \
                                        rows, out, feed);                                          \
  }                                                                                                \
  TARGET static void expand_##name(const uint8_t *codes, const int8_t *table, bool is_values,      \
                                   int32_t block_tokens, int32_t channels, int8_t *out) {          \
    const int32_t blocks = is_values ? 0 : block_tokens / 16,                                      \
                  tiles = nibble_block_tiles(is_values, block_tokens, channels);                   \
    if (tiles % STEP == 0 && (is_values ? block_tokens % 32 == 0 : blocks != 3))                   \
      expand_whole(kind, blocks, codes, load_table(kind, table, false), block_tokens, channels,    \
                   tiles, out);                                                                    \
    else                                                                                           \
      nibble_scalar_kernels.expand[kind](codes, table, is_values, block_tokens, channels, out);    \
  }
NIBBLE_EACH_CODE_KIND(INTEGER_KERNELS)

// ---- Exact rows

TARGET_INLINE __m512 load_floats(int32_t kind, const uint8_t *bytes) {
  if (kind == NIBBLE_FLOAT32) return _mm512_loadu_ps(bytes);
  const __m256i x = _mm256_loadu_si256((const __m256i *)bytes);
  if (kind == NIBBLE_FLOAT16) return _mm512_cvtph_ps(x);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

TARGET_INLINE void dot_float_block(int32_t kind, int32_t blocks, int32_t rows, const uint8_t *codes,
                                   int32_t channels, const float *queries, size_t stride,
                                   float *scores, nibble_feed *feed) {
  const int32_t width = kind == NIBBLE_FLOAT32 ? 64 : 32;
  __m512 sum[4][4];
  for (int r = 0; r < rows; r++)
    for (int b = 0; b < blocks; b++) sum[r][b] = _mm512_setzero_ps();
  for (int32_t d = 0; d < channels; d++) {
    nibble_fetch(feed, blocks * width / 64);
    __m512 key[4];
    for (int b = 0; b < blocks; b++) key[b] = load_floats(kind, codes + b * width);
    codes += blocks * width;
    for (int r = 0; r < rows; r++) {
      const __m512 query = _mm512_set1_ps(queries[r * stride + d]);
      for (int b = 0; b < blocks; b++) sum[r][b] = _mm512_fmadd_ps(query, key[b], sum[r][b]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int b = 0; b < blocks; b++)
      _mm512_storeu_ps(scores + r * NIBBLE_MAX_BLOCK_TOKENS + b * 16, sum[r][b]);
}

TARGET_INLINE void dot_float_blocks(int32_t kind, int32_t blocks, const uint8_t *codes,
                                    int32_t channels, const float *queries, size_t stride,
                                    int32_t rows, float *scores, nibble_feed *feed) {
  int32_t r = 0;
  for (; r + 4 <= rows; r += 4)
    dot_float_block(kind, blocks, 4, codes, channels, queries + r * stride, stride,
                    scores + r * NIBBLE_MAX_BLOCK_TOKENS, feed);
  for (; r < rows; r++)
    dot_float_block(kind, blocks, 1, codes, channels, queries + r * stride, stride,
                    scores + r * NIBBLE_MAX_BLOCK_TOKENS, feed);
}

// `columns` (at most 4) columns of 16 channels.
TARGET_INLINE void weigh_float_columns(int32_t kind, int32_t columns, int32_t rows,
                                       const uint8_t *codes, int32_t block_tokens,
                                       int32_t padded_channels, const float *weights,
                                       float *accumulators, nibble_feed *feed) {
  const int32_t width = kind == NIBBLE_FLOAT32 ? 64 : 32;
  const size_t row_bytes = (size_t)padded_channels / 16 * (size_t)width;
  __m512 sum[4][4];
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++)
      sum[r][c] = _mm512_loadu_ps(accumulators + r * padded_channels + c * 16);
  for (int32_t t = 0; t < block_tokens; t++) {
    nibble_fetch(feed, columns * width / 64);
    __m512 value[4];
    for (int c = 0; c < columns; c++) value[c] = load_floats(kind, codes + c * width);
    codes += row_bytes;
    for (int r = 0; r < rows; r++) {
      const __m512 weight = _mm512_set1_ps(weights[r * NIBBLE_MAX_BLOCK_TOKENS + t]);
      for (int c = 0; c < columns; c++) sum[r][c] = _mm512_fmadd_ps(weight, value[c], sum[r][c]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++)
      _mm512_storeu_ps(accumulators + r * padded_channels + c * 16, sum[r][c]);
}

TARGET_INLINE void weigh_float_rows(int32_t kind, int32_t rows, const uint8_t *codes,
                                    int32_t block_tokens, int32_t padded_channels,
                                    const float *weights, float *accumulators, nibble_feed *feed) {
  const int32_t width = kind == NIBBLE_FLOAT32 ? 64 : 32;
  int32_t d = 0;
  for (; d + 64 <= padded_channels; d += 64)
    weigh_float_columns(kind, 4, rows, codes + d / 16 * width, block_tokens, padded_channels,
                        weights, accumulators + d, feed);
  for (; d < padded_channels; d += 16)
    weigh_float_columns(kind, 1, rows, codes + d / 16 * width, block_tokens, padded_channels,
                        weights, accumulators + d, feed);
}

#define ROW_KERNELS(name, kind)                                                                    \
  TARGET static void dot_##name(const void *codes, int32_t block_tokens, int32_t channels,         \
                                const float *queries, size_t stride, int32_t rows, float *scores,  \
                                nibble_feed *feed) {                                               \
    if (block_tokens == 64)                                                                        \
      dot_float_blocks(kind, 4, codes, channels, queries, stride, rows, scores, feed);             \
    else if (block_tokens == 48)                                                                   \
      dot_float_blocks(kind, 3, codes, channels, queries, stride, rows, scores, feed);             \
    else if (block_tokens == 32)                                                                   \
      dot_float_blocks(kind, 2, codes, channels, queries, stride, rows, scores, feed);             \
    else                                                                                           \
      dot_float_blocks(kind, 1, codes, channels, queries, stride, rows, scores, feed);             \
  }                                                                                                \
  TARGET static void weigh_##name(const void *codes, int32_t block_tokens,                         \
                                  int32_t padded_channels, const float *weights, int32_t rows,     \
                                  float *accumulators, nibble_feed *feed) {                        \
    int32_t r = 0;                                                                                 \
    for (; r + 4 <= rows; r += 4)                                                                  \
      weigh_float_rows(kind, 4, codes, block_tokens, padded_channels,                              \
                       weights + r * NIBBLE_MAX_BLOCK_TOKENS, accumulators + r * padded_channels,  \
                       feed);                                                                      \
    for (; r < rows; r++)                                                                          \
      weigh_float_rows(kind, 1, codes, block_tokens, padded_channels,                              \
                       weights + r * NIBBLE_MAX_BLOCK_TOKENS, accumulators + r * padded_channels,  \
                       feed);                                                                      \
  }
ROW_KERNELS(float32, NIBBLE_FLOAT32)
ROW_KERNELS(float16, NIBBLE_FLOAT16)
ROW_KERNELS(bfloat16, NIBBLE_BFLOAT16)

#include "avx512_encode.h"

#define KERNEL_HAS_NEAREST_ENTRIES
#define KERNEL_TABLE nibble_avx512_kernels
#define KERNEL_NAME "avx512"
#include "../kernel_table.h"

#endif
