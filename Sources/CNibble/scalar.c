// Plain C: the specification of every kernel. Other instruction sets give the same integers.
#include <string.h>

#include "float_parts.h"

// ---- Integer kernels

NIBBLE_INLINE int32_t entry(int32_t kind, bool is_values, const uint8_t *codes, const int8_t *table,
                            int32_t block_tokens, int32_t channels, int32_t t, int32_t d) {
  const uint8_t index = nibble_index_at(kind, is_values, codes, block_tokens, channels, t, d);
  return kind == NIBBLE_INT8 ? (int8_t)index : table[index];
}

NIBBLE_INLINE void dot(int32_t kind, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t channels, const int8_t *queries, size_t stride,
                       int32_t rows, int32_t *out) {
  for (int32_t t = 0; t < block_tokens; t++) {
    for (int32_t row = 0; row < rows; row++) out[row * NIBBLE_MAX_BLOCK_TOKENS + t] = 0;
    for (int32_t d = 0; d < channels; d++) {
      const int32_t value = entry(kind, false, codes, table, block_tokens, channels, t, d) + 128;
      for (int32_t row = 0; row < rows; row++)
        out[row * NIBBLE_MAX_BLOCK_TOKENS + t] += value * queries[row * stride + d];
    }
  }
}

NIBBLE_INLINE void weigh(int32_t kind, const uint8_t *codes, const int8_t *table,
                         int32_t block_tokens, int32_t padded_channels, const uint8_t *weights,
                         int32_t rows, int32_t *out) {
  for (int32_t d = 0; d < padded_channels; d++) {
    for (int32_t row = 0; row < rows; row++) out[row * padded_channels + d] = 0;
    for (int32_t t = 0; t < block_tokens; t++) {
      const int32_t value = entry(kind, true, codes, table, block_tokens, padded_channels, t, d);
      for (int32_t row = 0; row < rows; row++)
        out[row * padded_channels + d] += value * weights[row * NIBBLE_MAX_BLOCK_TOKENS + t];
    }
  }
}

NIBBLE_INLINE void expand(int32_t kind, const uint8_t *codes, const int8_t *table, bool is_values,
                          int32_t block_tokens, int32_t channels, int8_t *out) {
  const int32_t width = is_values ? nibble_padded_channels(channels) : channels;
  for (int32_t t = 0; t < block_tokens; t++)
    for (int32_t d = 0; d < width; d++) {
      const int32_t tile = is_values ? nibble_tile_of_value(t, d, block_tokens)
                                     : nibble_tile_of_key(t, d, block_tokens),
                    byte = is_values ? nibble_byte_of_value(t, d) : nibble_byte_of_key(t, d);
      out[tile * 64 + byte] =
          (int8_t)entry(kind, is_values, codes, table, block_tokens, channels, t, d);
    }
}

#define INTEGER_KERNELS(name, kind)                                                                \
  static void dot_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens,          \
                         int32_t channels, const int8_t *queries, size_t stride, int32_t rows,     \
                         int32_t *out, nibble_feed *feed) {                                        \
    (void)feed;                                                                                    \
    dot(kind, codes, table, block_tokens, channels, queries, stride, rows, out);                   \
  }                                                                                                \
  static void weigh_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens,        \
                           int32_t padded_channels, const uint8_t *weights, int32_t rows,          \
                           int32_t *out, nibble_feed *feed) {                                      \
    (void)feed;                                                                                    \
    weigh(kind, codes, table, block_tokens, padded_channels, weights, rows, out);                  \
  }                                                                                                \
  static void expand_##name(const uint8_t *codes, const int8_t *table, bool is_values,             \
                            int32_t block_tokens, int32_t channels, int8_t *out) {                 \
    expand(kind, codes, table, is_values, block_tokens, channels, out);                            \
  }
NIBBLE_EACH_CODE_KIND(INTEGER_KERNELS)

// ---- Exact rows

NIBBLE_INLINE float element(int32_t kind, const void *codes, size_t index) {
  switch (kind) {
  case NIBBLE_FLOAT32: return ((const float *)codes)[index];
  case NIBBLE_FLOAT16: return nibble_from_float16(((const uint16_t *)codes)[index]);
  default: return nibble_from_bfloat16(((const uint16_t *)codes)[index]);
  }
}

NIBBLE_INLINE void dot_rows(int32_t kind, const void *codes, int32_t block_tokens, int32_t channels,
                            const float *queries, size_t stride, int32_t rows, float *scores) {
  for (int32_t row = 0; row < rows; row++)
    for (int32_t t = 0; t < block_tokens; t++) scores[row * NIBBLE_MAX_BLOCK_TOKENS + t] = 0;
  for (int32_t d = 0; d < channels; d++)
    for (int32_t t = 0; t < block_tokens; t++) {
      const float value = element(kind, codes, (size_t)d * block_tokens + t);
      for (int32_t row = 0; row < rows; row++)
        scores[row * NIBBLE_MAX_BLOCK_TOKENS + t] += queries[row * stride + d] * value;
    }
}

NIBBLE_INLINE void weigh_rows(int32_t kind, const void *codes, int32_t block_tokens,
                              int32_t padded_channels, const float *weights, int32_t rows,
                              float *accumulators) {
  for (int32_t t = 0; t < block_tokens; t++)
    for (int32_t d = 0; d < padded_channels; d++) {
      const float value = element(kind, codes, (size_t)t * padded_channels + d);
      for (int32_t row = 0; row < rows; row++)
        accumulators[row * padded_channels + d] +=
            weights[row * NIBBLE_MAX_BLOCK_TOKENS + t] * value;
    }
}

#define ROW_KERNELS(name, kind)                                                                    \
  static void dot_##name(const void *codes, int32_t block_tokens, int32_t channels,                \
                         const float *queries, size_t stride, int32_t rows, float *scores,         \
                         nibble_feed *feed) {                                                      \
    (void)feed;                                                                                    \
    dot_rows(kind, codes, block_tokens, channels, queries, stride, rows, scores);                  \
  }                                                                                                \
  static void weigh_##name(const void *codes, int32_t block_tokens, int32_t padded_channels,       \
                           const float *weights, int32_t rows, float *accumulators,                \
                           nibble_feed *feed) {                                                    \
    (void)feed;                                                                                    \
    weigh_rows(kind, codes, block_tokens, padded_channels, weights, rows, accumulators);           \
  }
ROW_KERNELS(float32, NIBBLE_FLOAT32)
ROW_KERNELS(float16, NIBBLE_FLOAT16)
ROW_KERNELS(bfloat16, NIBBLE_BFLOAT16)

// ---- Encoding and 16-bit floats

static void hadamard(float *values, int32_t count, const float *signs, float factor) {
  nibble_hadamard_floats(values, count, signs, factor);
}

static void trellis_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                         const uint16_t (*old)[NIBBLE_CHAINS], uint16_t (*fresh)[NIBBLE_CHAINS],
                         uint8_t (*from)[NIBBLE_CHAINS]) {
  const int32_t states = 256 >> bits;
  uint16_t least[NIBBLE_CHAINS];
  memset(least, 0xff, sizeof least);
  for (int32_t s = 0; s < states; s++) {
    memset(fresh[s], 0xff, sizeof fresh[s]);
    memset(from[s], 0, sizeof from[s]);
    for (int32_t top = 0; top < 1 << bits; top++) {
      const int32_t window = top << (8 - bits) | s;
      for (int32_t i = 0; i < NIBBLE_CHAINS; i++) {
        int32_t d = samples[i] - entries[window][0];
        d = d < INT16_MIN ? INT16_MIN : d > INT16_MAX ? INT16_MAX : d;
        int32_t cost = old[window >> bits][i] + ((d * d + 0x4000) >> 15);
        cost = cost > UINT16_MAX ? UINT16_MAX : cost;
        if (cost < fresh[s][i]) {
          fresh[s][i] = (uint16_t)cost;
          from[s][i] = (uint8_t)top;
        }
      }
    }
    for (int32_t i = 0; i < NIBBLE_CHAINS; i++)
      least[i] = fresh[s][i] < least[i] ? fresh[s][i] : least[i];
  }
  for (int32_t s = 0; s < states; s++)
    for (int32_t i = 0; i < NIBBLE_CHAINS; i++) fresh[s][i] = (uint16_t)(fresh[s][i] - least[i]);
}

static void narrow_float16(const float *values, size_t count, uint16_t *result) {
  for (size_t i = 0; i < count; i++) result[i] = nibble_to_float16(values[i]);
}
static void widen_float16(const uint16_t *values, size_t count, float *result) {
  for (size_t i = 0; i < count; i++) result[i] = nibble_from_float16(values[i]);
}

#define TARGET
#define KERNEL_TABLE nibble_scalar_kernels
#define KERNEL_NAME "scalar"
#include "kernel_table.h"
