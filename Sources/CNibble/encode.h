// What the encoders share: packing and scales.
#ifndef NIBBLE_ENCODE_H
#define NIBBLE_ENCODE_H

#include <math.h>
#include <string.h>

#include "float_parts.h"

void nibble_encode_trellis(const nibble_strip *strip, const float *rows, uint8_t *codes,
                           uint8_t *side, void *scratch);
size_t nibble_trellis_scratch_bytes(const nibble_strip *strip);
void nibble_encode_bcq(const nibble_strip *strip, int32_t levels, const float *rows, uint8_t *codes,
                       uint8_t *side, void *scratch);
size_t nibble_bcq_scratch_bytes(const nibble_strip *strip);

// Packs codes [block tokens][channels] of one block into zeroed memory.
void nibble_pack_block(const nibble_strip *strip, const uint8_t *codes, uint8_t *block);
// Packs four codes that share a lane of a tile, one in each byte of `word`, into zeroed memory.
static inline void nibble_put_quad(int32_t kind, uint8_t *block, int32_t tile, int32_t lane,
                                   uint32_t word) {
  uint32_t old;
  uint8_t *target;
  switch (nibble_code_bits(kind)) {
  case 4:
    target = block + tile / 2 * 64 + lane * 4;
    word <<= tile % 2 * 4;
    break;
  case 2:
    target = block + tile / 4 * 64 + lane * 4;
    word <<= tile % 4 * 2;
    break;
  case 1:
    target = block + tile / 8 * 64 + lane * 4;
    word <<= tile % 8;
    break;
  case 3: {
    uint8_t *unit = block + tile / 8 * 192;
    const int32_t k = tile % 8;
    target = unit + 128 + lane * 4;
    memcpy(&old, target, sizeof old);
    old |= (word >> 2 & 0x01010101) << k;
    memcpy(target, &old, sizeof old);
    target = unit + k / 4 * 64 + lane * 4;
    word = (word & 0x03030303) << (k % 4 * 2);
    break;
  }
  default: target = block + tile * 64 + lane * 4; break;
  }
  memcpy(&old, target, sizeof old);
  old |= word;
  memcpy(target, &old, sizeof old);
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
