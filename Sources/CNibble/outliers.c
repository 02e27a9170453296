// The largest values of a block kept apart: a dense code for the rest, and a list of what it leaves
// at their places (dense and sparse: Dettmers et al., "SpQR", 2023; Kim et al., "SqueezeLLM",
// 2023).
#include "encode.h"

static uint32_t magnitude_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits & 0x7fffffff;
}

static int32_t count_from(const float *rows, int32_t count, uint32_t least) {
  int32_t result = 0;
  for (int32_t i = 0; i < count; i++) result += magnitude_of(rows[i]) >= least;
  return result;
}

// The magnitude, as bits, that `wanted` values reach.
static uint32_t threshold(const float *rows, int32_t count, int32_t wanted) {
  uint32_t low = 0, high = 0x7f800000;  // reached by enough; by too few
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (count_from(rows, count, middle) >= wanted)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// What stands in for an outlier: the nearest to it within the range of the values that share its
// scale and are kept (taken ones are NaN); 0 if none is.
static float stand_in(const nibble_strip *strip, const float *block, int32_t index, float value) {
  const bool by_channel = strip->token_scale < 0 && strip->channel_scale >= 0;
  const int32_t channels = strip->channels, group = strip->group_channels, d = index % channels;
  const float *values = by_channel ? block + d : block + (index - d) + d / group * group;
  const int32_t stride = by_channel ? channels : 1,
                count = by_channel ? strip->block_tokens : group;
  float low = INFINITY, high = -INFINITY;
  for (int32_t i = 0; i < count; i++) {
    const float x = values[i * stride];
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  return low > high ? 0 : value < low ? low : value > high ? high : value;
}

static void take_from_block(const nibble_strip *strip, float *block, uint16_t *index,
                            float *taken) {
  const int32_t count = strip->block_tokens * strip->channels, wanted = strip->outlier_count;
  const uint32_t least = threshold(block, count, wanted);
  // Of equal ones the first.
  int32_t equal = wanted - count_from(block, count, least + 1), found = 0;
  for (int32_t i = 0; i < count && found < wanted; i++) {
    const uint32_t magnitude = magnitude_of(block[i]);
    if (magnitude < least || (magnitude == least && equal-- <= 0)) continue;
    index[found] = (uint16_t)i;
    taken[found++] = block[i];
  }
  for (int32_t i = 0; i < wanted; i++) block[index[i]] = NAN;
  for (int32_t i = 0; i < wanted; i++) block[index[i]] = stand_in(strip, block, index[i], taken[i]);
}

void nibble_take_outliers(const nibble_strip *strip, float *rows, uint8_t *side, float *taken) {
  if (strip->outliers < 0) return;
  const int32_t count = strip->block_tokens * strip->channels, wanted = strip->outlier_count;
  for (int32_t block = 0; block * strip->block_tokens < strip->tokens; block++)
    take_from_block(strip, rows + (size_t)block * (size_t)count,
                    nibble_side_at(side, strip->outliers, block * wanted), taken + block * wanted);
}

void nibble_put_outliers(const nibble_strip *strip, const uint8_t *codes, uint8_t *side,
                         const float *taken) {
  if (strip->outliers < 0) return;
  const int32_t wanted = strip->outlier_count, blocks = strip->tokens / strip->block_tokens;
  for (int32_t block = 0; block < blocks; block++)
    for (int32_t i = 0; i < wanted; i++, taken++) {
      const int32_t index = *nibble_side_at(side, strip->outliers, block * wanted + i);
      const int32_t token = block * strip->block_tokens + index / strip->channels;
      const float dense = nibble_dense_value(strip, codes, side, token, index % strip->channels);
      *nibble_side_at(side, strip->outliers, (blocks + block) * wanted + i) =
          nibble_to_bfloat16(*taken - dense);
    }
}
