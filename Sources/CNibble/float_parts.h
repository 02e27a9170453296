// The float part of attention and encoding: one text, compiled for each instruction set by the files that include it.
//
// Sums run over 16 partial sums in a fixed order and no multiplication is contracted with an addition, so every
// instruction set gives the same floats.
#ifndef NIBBLE_FLOAT_PARTS_H
#define NIBBLE_FLOAT_PARTS_H

#include <math.h>

#include "kernels.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { NIBBLE_LANES = 16 };

// Turns one row's integer sums into scores.
typedef struct nibble_score_finish {
  const int32_t *raw;      // of the query's (high) bytes
  const int32_t *raw_low;  // of its low bytes, or NULL
  int32_t tokens;
  int32_t query_sum, query_sum_low;
  float query_scale;            // times the table's scale
  const uint16_t *token_scale;  // bfloat16, or NULL
  const uint16_t *token_zero;   // float16, or NULL
  float zero;
  float minus;  // the share of the channels' zero points
  float *scores;
  bool accumulate;
} nibble_score_finish;

// Rounds one row's softmax weights, times the tokens' scales, to unsigned integers.
typedef struct nibble_weight_start {
  const float *weights;
  int32_t tokens;
  const uint16_t *token_scale;
  const uint16_t *token_zero;
  float zero;
  uint8_t *high;
  uint8_t *low;  // NULL: 8 bits are enough
  float scale;     // out: value of one unit
  float sum;       // out: sum of the integers
  float zero_sum;  // out: sum of integer times zero point
} nibble_weight_start;

// Adds one row's weighted integer sums to its accumulator.
typedef struct nibble_value_finish {
  const int32_t *raw;
  const int32_t *raw_low;
  int32_t channels;
  float scale, sum, zero_sum;
  const uint16_t *channel_scale;  // bfloat16, or NULL
  const uint16_t *channel_zero;   // float16, or NULL
  float *accumulator;
} nibble_value_finish;

NIBBLE_INLINE float nibble_round(float x) {
  // Ties to even, for magnitudes below 2^22.
  const float magic = 12582912.0f;
  return (x + magic) - magic;
}

NIBBLE_INLINE float nibble_exp(float x) {
  // Cody and Waite reduction and the Taylor polynomial of degree 7 on |f| <= ln(2)/2: relative error below 2e-7.
  const float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float n = nibble_round(clamped * 1.44269504f);
  const float f = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9841270e-4f;
  p = p * f + 1.3888889e-3f;
  p = p * f + 8.3333333e-3f;
  p = p * f + 4.1666667e-2f;
  p = p * f + 1.6666667e-1f;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  union {
    int32_t i;
    float f;
  } power = {.i = ((int32_t)n + 127) << 23};
  return x < -87.0f ? 0.0f : p * power.f;
}

NIBBLE_INLINE float nibble_lanes_sum(const float *lane) {
  float sum = 0;
  for (int i = 0; i < NIBBLE_LANES; i++) sum += lane[i];
  return sum;
}

NIBBLE_INLINE float nibble_lanes_max(const float *lane) {
  float result = lane[0];
  for (int i = 1; i < NIBBLE_LANES; i++) result = lane[i] > result ? lane[i] : result;
  return result;
}

NIBBLE_INLINE void nibble_finish_scores(const nibble_score_finish *a) {
  const int32_t offset = 128 * a->query_sum, offset_low = 128 * a->query_sum_low;
  const float query_sum = a->raw_low ? 256.0f * (float)a->query_sum + (float)a->query_sum_low : (float)a->query_sum;
  for (int32_t t0 = 0; t0 < a->tokens; t0 += NIBBLE_LANES) {
    float s[NIBBLE_LANES];
    for (int i = 0; i < NIBBLE_LANES; i++) s[i] = (float)(a->raw[t0 + i] - offset);
    if (a->raw_low)
      for (int i = 0; i < NIBBLE_LANES; i++) s[i] = 256.0f * s[i] + (float)(a->raw_low[t0 + i] - offset_low);
    if (a->token_zero) {
      for (int i = 0; i < NIBBLE_LANES; i++)
        s[i] = s[i] - (a->zero + nibble_from_float16(a->token_zero[t0 + i])) * query_sum;
    } else {
      for (int i = 0; i < NIBBLE_LANES; i++) s[i] = s[i] - a->zero * query_sum;
    }
    for (int i = 0; i < NIBBLE_LANES; i++) s[i] = s[i] * a->query_scale - a->minus;
    if (a->token_scale)
      for (int i = 0; i < NIBBLE_LANES; i++) s[i] = s[i] * nibble_from_bfloat16(a->token_scale[t0 + i]);
    if (a->accumulate) {
      for (int i = 0; i < NIBBLE_LANES; i++) a->scores[t0 + i] += s[i];
    } else {
      for (int i = 0; i < NIBBLE_LANES; i++) a->scores[t0 + i] = s[i];
    }
  }
}

// Turns scores into weights exp(scale * (score + bias) - maximum), raising the row's running maximum and sum. Returns the
// factor by which what was accumulated before must shrink. Tokens: a multiple of 16; invisible ones are -infinity.
NIBBLE_INLINE float nibble_softmax(float *scores, int32_t tokens, float bias, float scale, float *maximum,
                                   float *sum) {
  float lane[NIBBLE_LANES];
  for (int i = 0; i < NIBBLE_LANES; i++) lane[i] = -INFINITY;
  for (int32_t t0 = 0; t0 < tokens; t0 += NIBBLE_LANES)
    for (int i = 0; i < NIBBLE_LANES; i++) {
      const float score = (scores[t0 + i] + bias) * scale;
      scores[t0 + i] = score;
      lane[i] = score > lane[i] ? score : lane[i];
    }
  const float old = *maximum, block = nibble_lanes_max(lane);
  const float top = block > old ? block : old;
  if (top == -INFINITY) {
    for (int32_t t = 0; t < tokens; t++) scores[t] = 0;
    return 1;
  }
  for (int i = 0; i < NIBBLE_LANES; i++) lane[i] = 0;
  for (int32_t t0 = 0; t0 < tokens; t0 += NIBBLE_LANES)
    for (int i = 0; i < NIBBLE_LANES; i++) {
      const float weight = nibble_exp(scores[t0 + i] - top);
      scores[t0 + i] = weight;
      lane[i] += weight;
    }
  const float factor = top > old ? nibble_exp(old - top) : 1;
  *maximum = top;
  *sum = *sum * factor + nibble_lanes_sum(lane);
  return factor;
}

NIBBLE_INLINE void nibble_start_weights(nibble_weight_start *a) {
  float scaled[NIBBLE_MAX_BLOCK_TOKENS];
  float lane[NIBBLE_LANES] = {0};
  for (int32_t t0 = 0; t0 < a->tokens; t0 += NIBBLE_LANES) {
    float w[NIBBLE_LANES];
    for (int i = 0; i < NIBBLE_LANES; i++) w[i] = a->weights[t0 + i];
    if (a->token_scale)
      for (int i = 0; i < NIBBLE_LANES; i++) w[i] = w[i] * nibble_from_bfloat16(a->token_scale[t0 + i]);
    for (int i = 0; i < NIBBLE_LANES; i++) {
      scaled[t0 + i] = w[i];
      lane[i] = w[i] > lane[i] ? w[i] : lane[i];
    }
  }
  const float top = nibble_lanes_max(lane), units = a->low ? 65535.0f : 255.0f;
  const float inverse = top > 1e-30f ? units / top : 0;
  a->scale = top > 1e-30f ? top / units : 0;
  float sum[NIBBLE_LANES] = {0}, zero_sum[NIBBLE_LANES] = {0};
  for (int32_t t0 = 0; t0 < a->tokens; t0 += NIBBLE_LANES) {
    float w[NIBBLE_LANES];
    int32_t q[NIBBLE_LANES];
    for (int i = 0; i < NIBBLE_LANES; i++) w[i] = nibble_round(scaled[t0 + i] * inverse);
    for (int i = 0; i < NIBBLE_LANES; i++) q[i] = (int32_t)w[i];
    for (int i = 0; i < NIBBLE_LANES; i++) sum[i] += w[i];
    if (a->token_zero)
      for (int i = 0; i < NIBBLE_LANES; i++)
        zero_sum[i] += w[i] * (a->zero + nibble_from_float16(a->token_zero[t0 + i]));
    if (a->low) {
      for (int i = 0; i < NIBBLE_LANES; i++) a->high[t0 + i] = (uint8_t)(q[i] >> 8);
      for (int i = 0; i < NIBBLE_LANES; i++) a->low[t0 + i] = (uint8_t)(q[i] & 255);
    } else {
      for (int i = 0; i < NIBBLE_LANES; i++) a->high[t0 + i] = (uint8_t)q[i];
    }
  }
  a->sum = nibble_lanes_sum(sum);
  a->zero_sum = a->token_zero ? nibble_lanes_sum(zero_sum) : a->zero * a->sum;
}

NIBBLE_INLINE void nibble_finish_values(const nibble_value_finish *a) {
  for (int32_t d0 = 0; d0 < a->channels; d0 += NIBBLE_LANES) {
    float v[NIBBLE_LANES];
    for (int i = 0; i < NIBBLE_LANES; i++) v[i] = (float)a->raw[d0 + i];
    if (a->raw_low)
      for (int i = 0; i < NIBBLE_LANES; i++) v[i] = 256.0f * v[i] + (float)a->raw_low[d0 + i];
    const int32_t n = a->channels - d0 < NIBBLE_LANES ? a->channels - d0 : NIBBLE_LANES;
    for (int i = 0; i < NIBBLE_LANES; i++) v[i] = v[i] - a->zero_sum;
    if (a->channel_zero)
      for (int i = 0; i < n; i++) v[i] = v[i] - nibble_from_float16(a->channel_zero[d0 + i]) * a->sum;
    for (int i = 0; i < NIBBLE_LANES; i++) v[i] = v[i] * a->scale;
    if (a->channel_scale)
      for (int i = 0; i < n; i++) v[i] = v[i] * nibble_from_bfloat16(a->channel_scale[d0 + i]);
    for (int i = 0; i < NIBBLE_LANES; i++) a->accumulator[d0 + i] += v[i];
  }
}

NIBBLE_INLINE void nibble_combine_floats(float *result, float a, const float *source, float b, size_t n) {
  for (size_t i = 0; i < n; i++) result[i] = result[i] * a + source[i] * b;
}

NIBBLE_INLINE float nibble_dot_floats(const float *a, const float *b, size_t n) {
  float lane[NIBBLE_LANES] = {0};
  size_t i = 0;
  for (; i + NIBBLE_LANES <= n; i += NIBBLE_LANES)
    for (int j = 0; j < NIBBLE_LANES; j++) lane[j] += a[i + j] * b[i + j];
  float rest = 0;
  for (; i < n; i++) rest += a[i] * b[i];
  return nibble_lanes_sum(lane) + rest;
}

// Rounds a query to int8, or to int16 as 256 * high + low. Scale: the value of one unit of what the integers stand for.
NIBBLE_INLINE void nibble_quantize_floats(const float *query, int32_t channels, bool halves, int8_t *high,
                                          int8_t *low, float *scale) {
  float top = 0;
  for (int32_t d = 0; d < channels; d++) {
    const float x = fabsf(query[d]);
    top = x > top ? x : top;
  }
  const float units = halves ? 32512.0f : 127.0f;
  const float inverse = top > 1e-30f ? units / top : 0;
  *scale = top > 1e-30f ? top / units : 0;
  for (int32_t d = 0; d < channels; d++) {
    const int32_t q = (int32_t)nibble_round(query[d] * inverse);
    if (halves) {
      const int32_t upper = (q + 128) >> 8;
      high[d] = (int8_t)upper;
      low[d] = (int8_t)(q - 256 * upper);
    } else {
      high[d] = (int8_t)q;
    }
  }
}

NIBBLE_INLINE void nibble_nearest_codes(const float *values, size_t count, float inverse_scale,
                                        const float *thresholds, int32_t levels, uint8_t *codes) {
  for (size_t i = 0; i < count; i++) {
    const float x = values[i] * inverse_scale;
    int32_t code = 0;
    for (int32_t k = 0; k + 1 < levels; k++) code += x > thresholds[k];
    codes[i] = (uint8_t)code;
  }
}

NIBBLE_INLINE void nibble_even_codes(const float *values, size_t count, float inverse_scale, float zero, float top,
                                     uint8_t *codes) {
  for (size_t i = 0; i < count; i++) {
    float x = values[i] * inverse_scale + zero;
    x = x < 0 ? 0 : x > top ? top : x;
    codes[i] = (uint8_t)(int32_t)(x + 0.5f);
  }
}

NIBBLE_INLINE void nibble_hadamard_floats(float *x, int32_t n, float factor) {
  for (int32_t h = 1; h < n; h *= 2)
    for (int32_t i = 0; i < n; i += 2 * h)
      for (int32_t j = i; j < i + h; j++) {
        const float a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
  for (int32_t i = 0; i < n; i++) x[i] *= factor;
}

#endif
