// What the encoders share: packing and scales.
#ifndef NIBBLE_ENCODE_H
#define NIBBLE_ENCODE_H

#include <math.h>
#include <string.h>

#include "float_parts.h"

// Strips that fit their scales, whole or in parts. `weights`: see nibble_encode.
void nibble_encode_parts(const nibble_strip *strip, const float *weights, const float *rows,
                         uint8_t *codes, uint8_t *side, void *scratch);
size_t nibble_parts_scratch_bytes(const nibble_strip *strip);

// Codes of one part. `rows` are at unit scale, row channels apart; `weights` [row channels] or
// NULL.
void nibble_encode_trellis(const nibble_strip *part, const float *weights, const float *rows,
                           uint8_t *codes, void *scratch);
size_t nibble_trellis_scratch_bytes(const nibble_strip *part);
void nibble_encode_nearest(const nibble_strip *part, const float *rows, uint8_t *codes,
                           void *scratch);

// Codes [tokens][channels] of a strip with one scale a token, moved so that errors e of its rows
// leave the least e^T metric e, for a symmetric metric [channels][channels].
void nibble_shape_codes(const nibble_strip *strip, const float *metric, const float *rows,
                        const uint8_t *side, uint8_t *codes);

// A strip's table, wherever it is.
typedef struct {
  const int8_t *entries;
  float scale, zero;
} nibble_table;
nibble_table nibble_table_of(const nibble_strip *strip, const uint8_t *side);

// A table fitted to the strip, and its codes [tokens][channels].
void nibble_encode_fitted(const nibble_strip *strip, const float *rows, uint8_t *side,
                          uint8_t *codes, uint8_t *scratch);
size_t nibble_fitted_scratch_bytes(const nibble_strip *strip);

void nibble_encode_bcq(const nibble_strip *strip, const float *rows, uint8_t *codes, uint8_t *side,
                       void *scratch);
size_t nibble_bcq_scratch_bytes(const nibble_strip *strip);

// ---- Scratch

static inline size_t nibble_whole_lines(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static inline uint8_t *nibble_take(uint8_t **rest, size_t bytes) {
  uint8_t *start = *rest;
  *rest += nibble_whole_lines(bytes);
  return start;
}

// ---- Tiles

enum { NIBBLE_TILE = 64, NIBBLE_LANE = 4 };

// Tiles of a block or of a group of its channels, in whole packing units of any kind.
static inline size_t nibble_whole_tiles(bool is_values, int32_t block_tokens, int32_t channels) {
  return ((size_t)nibble_block_tiles(is_values, block_tokens, channels) + 7) & ~(size_t)7;
}

// Eight lanes as given, and the eight that follow each by four.
#define NIBBLE_MIX(x, y, a, b, c, d, e, f, g, h)                                                   \
  __builtin_shufflevector(x, y, a, b, c, d, e, f, g, h, a + 4, b + 4, c + 4, d + 4, e + 4, f + 4,  \
                          g + 4, h + 4)

// Rows [block tokens][channels], `stride` apart, in the order of tiles and back. What pads tiles is
// zero.
#define NIBBLE_ARRANGE(name, type)                                                                 \
  typedef type nibble_sixteen_##name __attribute__((ext_vector_type(16)));                         \
  NIBBLE_INLINE void nibble_interleave_##name(const type *rows, size_t stride, int32_t lanes,      \
                                              type *tile) {                                        \
    nibble_sixteen_##name row[NIBBLE_LANE] = {0}, pairs[4], quads[4];                              \
    for (size_t i = 0; i < NIBBLE_LANE; i++)                                                       \
      memcpy(&row[i], rows + i * stride, (size_t)lanes * sizeof(type));                            \
    for (int i = 0; i < 2; i++) {                                                                  \
      pairs[i] = NIBBLE_MIX(row[2 * i], row[2 * i + 1], 0, 16, 1, 17, 2, 18, 3, 19);               \
      pairs[i + 2] = NIBBLE_MIX(row[2 * i], row[2 * i + 1], 8, 24, 9, 25, 10, 26, 11, 27);         \
    }                                                                                              \
    for (int i = 0; i < 2; i++) {                                                                  \
      quads[2 * i] = NIBBLE_MIX(pairs[2 * i], pairs[2 * i + 1], 0, 1, 16, 17, 2, 3, 18, 19);       \
      quads[2 * i + 1] = NIBBLE_MIX(pairs[2 * i], pairs[2 * i + 1], 8, 9, 24, 25, 10, 11, 26, 27); \
    }                                                                                              \
    memcpy(tile, quads, sizeof quads);                                                             \
  }                                                                                                \
  static inline void nibble_arrange_##name(bool is_values, int32_t block_tokens, int32_t channels, \
                                           const type *rows, size_t stride,                        \
                                           type(*tiles)[NIBBLE_TILE]) {                            \
    if (!is_values) {                                                                              \
      for (int32_t d = 0; d < channels; d += NIBBLE_LANE)                                          \
        for (int32_t t = 0; t < block_tokens; t++)                                                 \
          memcpy(&tiles[nibble_tile_of_key(t, d, block_tokens)][t % 16 * NIBBLE_LANE],             \
                 rows + (size_t)t * stride + d, NIBBLE_LANE * sizeof(type));                       \
      return;                                                                                      \
    }                                                                                              \
    for (int32_t t = 0; t < block_tokens; t += NIBBLE_LANE)                                        \
      for (int32_t d = 0; d < channels; d += 16) {                                                 \
        type *tile = tiles[nibble_tile_of_value(t, d, block_tokens)];                              \
        const type *row = rows + (size_t)t * stride + d;                                           \
        if (channels - d < 16)                                                                     \
          nibble_interleave_##name(row, stride, channels - d, tile);                               \
        else                                                                                       \
          nibble_interleave_##name(row, stride, 16, tile);                                         \
      }                                                                                            \
  }
NIBBLE_ARRANGE(bytes, uint8_t)
NIBBLE_ARRANGE(samples, int16_t)

// Expanded tiles to floats of `unit` each, one row after the other, `stride` apart.
static inline void nibble_rows_of_tiles(bool is_values, int32_t block_tokens, int32_t channels,
                                        const int8_t (*tiles)[NIBBLE_TILE], float unit, float *rows,
                                        int32_t stride) {
  for (int32_t t = 0; t < block_tokens; t++)
    for (int32_t d = 0; d < channels; d += 8)
      for (int32_t i = d; i < d + 8; i++)
        rows[t * stride + i] =
            unit *
            (is_values ? tiles[nibble_tile_of_value(t, d, block_tokens)][nibble_byte_of_value(t, i)]
                       : tiles[nibble_tile_of_key(t, i, block_tokens)][nibble_byte_of_key(t, i)]);
}

// For strips with scales by token and by channel: stores scales by channel and divides the rows by
// them, so that rows and columns of each block have equal root mean squares (Sinkhorn and Knopp
// 1967). Other strips stay as they are.
void nibble_balance(const nibble_strip *strip, float *rows, uint8_t *side);

// For strips with outliers: takes the largest values out of the rows and, once the rest is encoded,
// stores what its codes leave of them. `taken` has room for all.
void nibble_take_outliers(const nibble_strip *strip, float *rows, uint8_t *side, float *taken);
void nibble_put_outliers(const nibble_strip *strip, const uint8_t *codes, uint8_t *side,
                         const float *taken);
// What the codes alone stand for.
float nibble_dense_value(const nibble_strip *strip, const uint8_t *codes, const uint8_t *side,
                         int32_t token, int32_t channel);

// Packs codes in the order of tiles, one a byte. `tiles` has whole packing units.
void nibble_pack_tiles(int32_t kind, const uint8_t (*tiles)[NIBBLE_TILE], int32_t count,
                       uint8_t *codes);
// Packs codes [block tokens][channels] of one block; selectors stay as they are. `tiles` has room
// for nibble_whole_tiles.
void nibble_pack_block(const nibble_strip *strip, const uint8_t *codes,
                       uint8_t (*tiles)[NIBBLE_TILE], uint8_t *block);

// ---- Scales

static inline uint16_t nibble_side_value(const uint8_t *side, int32_t offset, int32_t index) {
  return ((const uint16_t *)(const void *)(side + offset))[index];
}

static inline uint16_t *nibble_side_at(uint8_t *side, int32_t offset, int32_t index) {
  return (uint16_t *)(void *)(side + offset) + index;
}

// The scale as it will be read back; 0 stays 0, so that rows of zeros decode to zeros.
static inline float nibble_stored_scale(uint8_t *side, int32_t offset, int32_t index, float scale) {
  // Below bfloat16's normal range a scale would lose its bits: such rows are zeros for every
  // purpose.
  const uint16_t bits = scale < 1.2e-38f ? 0 : nibble_to_bfloat16(scale);
  *nibble_side_at(side, offset, index) = bits;
  return nibble_from_bfloat16(bits);
}

// Whether scales by channel stand beside those by token.
static inline bool nibble_is_balanced(const nibble_strip *strip) {
  return strip->token_scale >= 0 && strip->channel_scale >= 0;
}

// The smallest and the largest of values `stride` apart.
static inline void nibble_limits(const float *values, int32_t count, size_t stride, float *low,
                                 float *high) {
  *low = *high = values[0];
  for (int32_t i = 1; i < count; i++) {
    const float x = values[(size_t)i * stride];
    if (x < *low) *low = x;
    if (x > *high) *high = x;
  }
}

// Halfway between neighbouring entries, which ascend.
static inline void nibble_thresholds(const float *entries, int32_t levels, float *thresholds) {
  for (int32_t k = 0; k + 1 < levels; k++) thresholds[k] = 0.5f * (entries[k] + entries[k + 1]);
}

static inline float nibble_inverse(float scale) { return scale > 1.2e-38f ? 1 / scale : 0; }

static inline float nibble_root_mean_square(const nibble_kernels *kernels, const float *values,
                                            int32_t count) {
  const float plain = kernels->dot_floats(values, values, (size_t)count);
  if (plain > 1e-20f && plain < 1e30f) return sqrtf(plain / (float)count);
  float top = 0;
  for (int32_t i = 0; i < count; i++) top = fabsf(values[i]) > top ? fabsf(values[i]) : top;
  if (top == 0) return 0;
  double sum = 0;  // of squares relative to the largest, so that nothing overflows
  for (int32_t i = 0; i < count; i++) sum += (double)(values[i] / top) * (double)(values[i] / top);
  return top * (float)sqrt(sum / count);
}

#endif
