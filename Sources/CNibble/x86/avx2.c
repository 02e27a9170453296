// AVX2 with FMA and F16C, for machines without AVX-512. A block is expanded once to signed bytes,
// which stay in the nearest cache; products are taken in sixteen bits, so that no sum saturates.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "../float_parts.h"

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET

bool nibble_avx2_runs(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

#include "avx2_expand.h"

// ---- Sums of products

enum { MAX_BLOCK_BYTES = NIBBLE_MAX_BLOCK_TOKENS * NIBBLE_MAX_CHANNELS };

// out[row][lane] = sum over tiles of the products of a lane's four bytes and the tile's four
// operands. Tiles are `stride` bytes apart. `rows` (1 or 2) is a constant where this is inlined.
TARGET_INLINE void multiply_tiles(int32_t rows, const int8_t *tiles, size_t stride, int32_t count,
                                  const int16_t *const operands[2], __m256i out[2][2]) {
  __m256i sum[2][4];
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 4; i++) sum[r][i] = _mm256_setzero_si256();
  for (int32_t tile = 0; tile < count; tile++) {
    __m256i entries[4];
    for (int i = 0; i < 4; i++)
      entries[i] = _mm256_cvtepi8_epi16(
          _mm_loadu_si128((const __m128i *)(const void *)(tiles + (size_t)tile * stride + i * 16)));
    for (int r = 0; r < rows; r++) {
      int64_t quad;
      memcpy(&quad, operands[r] + tile * 4, sizeof quad);
      const __m256i operand = _mm256_set1_epi64x(quad);
      for (int i = 0; i < 4; i++)
        sum[r][i] = _mm256_add_epi32(sum[r][i], _mm256_madd_epi16(entries[i], operand));
    }
  }
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 2; i++)
      // Neighbours added within 128-bit lanes, then the lanes put in order.
      out[r][i] =
          _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][2 * i], sum[r][2 * i + 1]), 0xd8);
}

TARGET_INLINE void dot(int32_t kind, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t channels, const int8_t *queries, size_t stride,
                       int32_t rows, int32_t *out) {
  int8_t expanded[MAX_BLOCK_BYTES];
  int16_t wide[2][NIBBLE_MAX_CHANNELS];
  const int32_t blocks = block_tokens / 16, quads = channels / 4;
  expand_block(kind, codes, table, false, block_tokens, channels, expanded);
  for (int32_t row = 0; row < rows; row += 2) {
    const int32_t count = rows - row < 2 ? 1 : 2;
    int32_t sum[2] = {0, 0};
    for (int32_t r = 0; r < count; r++)
      for (int32_t d = 0; d < channels; d++) {
        wide[r][d] = queries[(size_t)(row + r) * stride + (size_t)d];
        sum[r] += wide[r][d];
      }
    const int16_t *const operands[2] = {wide[0], wide[1]};
    for (int32_t b = 0; b < blocks; b++) {
      __m256i result[2][2];
      if (count == 2)
        multiply_tiles(2, expanded + b * 64, (size_t)blocks * 64, quads, operands, result);
      else
        multiply_tiles(1, expanded + b * 64, (size_t)blocks * 64, quads, operands, result);
      for (int32_t r = 0; r < count; r++)
        for (int32_t i = 0; i < 2; i++)
          _mm256_storeu_si256(
              (__m256i *)(void *)(out + (row + r) * NIBBLE_MAX_BLOCK_TOKENS + b * 16 + i * 8),
              // Keys count from -128.
              _mm256_add_epi32(result[r][i], _mm256_set1_epi32(128 * sum[r])));
    }
  }
}

TARGET_INLINE void weigh(int32_t kind, const uint8_t *codes, const int8_t *table,
                         int32_t block_tokens, int32_t padded_channels, const uint8_t *weights,
                         int32_t rows, int32_t *out) {
  int8_t expanded[MAX_BLOCK_BYTES];
  int16_t wide[2][NIBBLE_MAX_BLOCK_TOKENS];
  const int32_t columns = padded_channels / 16, quads = block_tokens / 4;
  expand_block(kind, codes, table, true, block_tokens, padded_channels, expanded);
  for (int32_t row = 0; row < rows; row += 2) {
    const int32_t count = rows - row < 2 ? 1 : 2;
    for (int32_t r = 0; r < count; r++)
      for (int32_t t = 0; t < block_tokens; t++)
        wide[r][t] = weights[(row + r) * NIBBLE_MAX_BLOCK_TOKENS + t];
    const int16_t *const operands[2] = {wide[0], wide[1]};
    for (int32_t c = 0; c < columns; c++) {
      __m256i result[2][2];
      if (count == 2)
        multiply_tiles(2, expanded + c * quads * 64, 64, quads, operands, result);
      else
        multiply_tiles(1, expanded + c * quads * 64, 64, quads, operands, result);
      for (int32_t r = 0; r < count; r++)
        for (int32_t i = 0; i < 2; i++)
          _mm256_storeu_si256(
              (__m256i *)(void *)(out + (row + r) * padded_channels + c * 16 + i * 8),
              result[r][i]);
    }
  }
}

#define INTEGER_KERNELS(name, kind)                                                                \
  TARGET static void dot_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens,   \
                                int32_t channels, const int8_t *queries, size_t stride,            \
                                int32_t rows, int32_t *out, ptrdiff_t ahead) {                     \
    (void)ahead;                                                                                   \
    dot(kind, codes, table, block_tokens, channels, queries, stride, rows, out);                   \
  }                                                                                                \
  TARGET static void weigh_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens, \
                                  int32_t padded_channels, const uint8_t *weights, int32_t rows,   \
                                  int32_t *out, ptrdiff_t ahead) {                                 \
    (void)ahead;                                                                                   \
    weigh(kind, codes, table, block_tokens, padded_channels, weights, rows, out);                  \
  }                                                                                                \
  TARGET static void expand_##name(const uint8_t *codes, const int8_t *table, bool is_values,      \
                                   int32_t block_tokens, int32_t channels, int8_t *out) {          \
    expand_block(kind, codes, table, is_values, block_tokens, channels, out);                      \
  }
NIBBLE_EACH_CODE_KIND(INTEGER_KERNELS)

// ---- Exact rows

TARGET_INLINE __m256 load_floats(int32_t kind, const uint8_t *bytes) {
  if (kind == NIBBLE_FLOAT32) return _mm256_loadu_ps((const float *)(const void *)bytes);
  const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)bytes);
  if (kind == NIBBLE_FLOAT16) return _mm256_cvtph_ps(x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

// Eight tokens and `rows` (at most 4) rows.
TARGET_INLINE void dot_float_lanes(int32_t kind, int32_t rows, const uint8_t *codes,
                                   size_t row_bytes, int32_t channels, const float *queries,
                                   size_t stride, float *scores) {
  __m256 sum[4];
  for (int r = 0; r < rows; r++) sum[r] = _mm256_setzero_ps();
  for (int32_t d = 0; d < channels; d++) {
    const __m256 keys = load_floats(kind, codes + (size_t)d * row_bytes);
    for (int r = 0; r < rows; r++)
      sum[r] =
          _mm256_fmadd_ps(_mm256_set1_ps(queries[(size_t)r * stride + (size_t)d]), keys, sum[r]);
  }
  for (int r = 0; r < rows; r++) _mm256_storeu_ps(scores + r * NIBBLE_MAX_BLOCK_TOKENS, sum[r]);
}

// Eight channels and `rows` (at most 4) rows.
TARGET_INLINE void weigh_float_lanes(int32_t kind, int32_t rows, const uint8_t *codes,
                                     size_t row_bytes, int32_t block_tokens,
                                     int32_t padded_channels, const float *weights,
                                     float *accumulators) {
  __m256 sum[4];
  for (int r = 0; r < rows; r++) sum[r] = _mm256_loadu_ps(accumulators + r * padded_channels);
  for (int32_t t = 0; t < block_tokens; t++) {
    const __m256 values = load_floats(kind, codes + (size_t)t * row_bytes);
    for (int r = 0; r < rows; r++)
      sum[r] =
          _mm256_fmadd_ps(_mm256_set1_ps(weights[r * NIBBLE_MAX_BLOCK_TOKENS + t]), values, sum[r]);
  }
  for (int r = 0; r < rows; r++) _mm256_storeu_ps(accumulators + r * padded_channels, sum[r]);
}

#define ROW_KERNELS(name, kind)                                                                    \
  TARGET static void dot_##name(const void *codes, int32_t block_tokens, int32_t channels,         \
                                const float *queries, size_t stride, int32_t rows, float *scores,  \
                                ptrdiff_t ahead) {                                                 \
    (void)ahead;                                                                                   \
    const size_t width = kind == NIBBLE_FLOAT32 ? 4 : 2, row_bytes = (size_t)block_tokens * width; \
    for (int32_t t = 0; t < block_tokens; t += 8) {                                                \
      const uint8_t *lanes = (const uint8_t *)codes + (size_t)t * width;                           \
      int32_t r = 0;                                                                               \
      for (; r + 4 <= rows; r += 4)                                                                \
        dot_float_lanes(kind, 4, lanes, row_bytes, channels, queries + (size_t)r * stride, stride, \
                        scores + r * NIBBLE_MAX_BLOCK_TOKENS + t);                                 \
      for (; r < rows; r++)                                                                        \
        dot_float_lanes(kind, 1, lanes, row_bytes, channels, queries + (size_t)r * stride, stride, \
                        scores + r * NIBBLE_MAX_BLOCK_TOKENS + t);                                 \
    }                                                                                              \
  }                                                                                                \
  TARGET static void weigh_##name(const void *codes, int32_t block_tokens,                         \
                                  int32_t padded_channels, const float *weights, int32_t rows,     \
                                  float *accumulators, ptrdiff_t ahead) {                          \
    (void)ahead;                                                                                   \
    const size_t width = kind == NIBBLE_FLOAT32 ? 4 : 2,                                           \
                 row_bytes = (size_t)padded_channels * width;                                      \
    for (int32_t d = 0; d < padded_channels; d += 8) {                                             \
      const uint8_t *lanes = (const uint8_t *)codes + (size_t)d * width;                           \
      int32_t r = 0;                                                                               \
      for (; r + 4 <= rows; r += 4)                                                                \
        weigh_float_lanes(kind, 4, lanes, row_bytes, block_tokens, padded_channels,                \
                          weights + r * NIBBLE_MAX_BLOCK_TOKENS,                                   \
                          accumulators + r * padded_channels + d);                                 \
      for (; r < rows; r++)                                                                        \
        weigh_float_lanes(kind, 1, lanes, row_bytes, block_tokens, padded_channels,                \
                          weights + r * NIBBLE_MAX_BLOCK_TOKENS,                                   \
                          accumulators + r * padded_channels + d);                                 \
    }                                                                                              \
  }
ROW_KERNELS(float32, NIBBLE_FLOAT32)
ROW_KERNELS(float16, NIBBLE_FLOAT16)
ROW_KERNELS(bfloat16, NIBBLE_BFLOAT16)

// ---- The search of the trellis codes

TARGET_INLINE void search_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                               const uint16_t (*old)[NIBBLE_CHAINS],
                               uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  const int32_t states = 256 >> bits;
  const __m256i *x = (const __m256i *)(const void *)samples;
  __m256i least[2] = {_mm256_set1_epi8(-1), _mm256_set1_epi8(-1)};
  for (int32_t s = 0; s < states; s++) {
    __m256i best[2] = {_mm256_set1_epi8(-1), _mm256_set1_epi8(-1)};
    __m256i tops[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int32_t top = 0; top < 1 << bits; top++) {
      const int32_t window = top << (8 - bits) | s;
      int32_t pair;
      memcpy(&pair, entries[window], sizeof pair);
      const __m256i entry = _mm256_set1_epi32(pair), mark = _mm256_set1_epi16((int16_t)top);
      const __m256i *before = (const __m256i *)(const void *)old[window >> bits];
      for (int i = 0; i < 2; i++) {
        const __m256i d = _mm256_subs_epi16(_mm256_loadu_si256(x + i), entry);
        const __m256i cost =
            _mm256_adds_epu16(_mm256_loadu_si256(before + i), _mm256_mulhrs_epi16(d, d));
        const __m256i least_cost = _mm256_min_epu16(best[i], cost);
        const __m256i kept = _mm256_cmpeq_epi16(least_cost, best[i]);
        tops[i] = _mm256_blendv_epi8(mark, tops[i], kept);
        best[i] = least_cost;
      }
    }
    for (int i = 0; i < 2; i++) {
      _mm256_storeu_si256((__m256i *)(void *)fresh[s] + i, best[i]);
      least[i] = _mm256_min_epu16(least[i], best[i]);
    }
    _mm256_storeu_si256((__m256i *)(void *)from[s],
                        _mm256_permute4x64_epi64(_mm256_packus_epi16(tops[0], tops[1]), 0xd8));
  }
  for (int32_t s = 0; s < states; s++)
    for (int i = 0; i < 2; i++) {
      __m256i *cost = (__m256i *)(void *)fresh[s] + i;
      _mm256_storeu_si256(cost, _mm256_sub_epi16(_mm256_loadu_si256(cost), least[i]));
    }
}

TARGET static void trellis_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                                const uint16_t (*old)[NIBBLE_CHAINS],
                                uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  if (bits == 4)
    search_step(4, entries, samples, old, fresh, from);
  else if (bits == 3)
    search_step(3, entries, samples, old, fresh, from);
  else if (bits == 2)
    search_step(2, entries, samples, old, fresh, from);
  else
    search_step(1, entries, samples, old, fresh, from);
}

// ---- Encoding and 16-bit floats

TARGET static void hadamard(float *values, int32_t count, const float *signs, float factor) {
  nibble_hadamard_floats(values, count, signs, factor);
}

TARGET static void narrow_float16(const float *values, size_t count, uint16_t *result) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128((__m128i *)(void *)(result + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(values + i),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  for (; i < count; i++) result[i] = nibble_to_float16(values[i]);
}

TARGET static void widen_float16(const uint16_t *values, size_t count, float *result) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(result + i,
                     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(values + i))));
  for (; i < count; i++) result[i] = nibble_from_float16(values[i]);
}

#define KERNEL_TABLE nibble_avx2_kernels
#define KERNEL_NAME "avx2"
#include "../kernel_table.h"

#endif
