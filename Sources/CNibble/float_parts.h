// The float part of attention and encoding: one text, compiled for each instruction set by the
// files that include it.
//
// Sums run over 16 partial sums in a fixed order and no multiplication is contracted with an
// addition, so every instruction set gives the same floats.
#ifndef NIBBLE_FLOAT_PARTS_H
#define NIBBLE_FLOAT_PARTS_H

#include <math.h>
#include <string.h>

#include "kernels.h"

enum {
  NIBBLE_LANES = 16,
  NIBBLE_CHUNK_ROWS = 16,  // rows that pass through a block together
};

// Of a query row that was rounded to integers, for one group of channels.
typedef struct nibble_query_terms {
  float sum, sum_low;  // of its (high) bytes, and of its low bytes
  float scale;         // the value of one unit
  float minus;         // what the zero points of the channels take away, in units
} nibble_query_terms;

// Turns integer sums into scores. Arrays of tokens have a row for each query row,
// NIBBLE_MAX_BLOCK_TOKENS apart.
typedef struct nibble_score_finish {
  int32_t rows, tokens;
  const int32_t *raw;               // of the queries' (high) bytes
  const int32_t *raw_low;           // of their low bytes, or NULL
  const nibble_query_terms *terms;  // [rows]
  float table_scale;
  const uint16_t *token_scale;  // bfloat16, or NULL
  const uint16_t *token_zero;   // float16, or NULL
  float zero;
  float *scores;
  bool accumulate;
} nibble_score_finish;

// Rounds softmax weights, times the tokens' scales, to unsigned integers. Rows are
// NIBBLE_MAX_BLOCK_TOKENS apart.
typedef struct nibble_weight_start {
  int32_t rows, tokens;
  const float *weights;
  const uint16_t *token_scale;
  const uint16_t *token_zero;
  float zero;
  uint8_t *high;
  uint8_t *low;                       // NULL: 8 bits are enough
  bool wants_sum;                     // `sum` is needed: there are zero points, not by token
  float scale[NIBBLE_CHUNK_ROWS];     // out: value of one unit
  float sum[NIBBLE_CHUNK_ROWS];       // out: sum of the integers
  float zero_sum[NIBBLE_CHUNK_ROWS];  // out: sum of integer times zero point of the token
} nibble_weight_start;

// Adds weighted integer sums to accumulators.
typedef struct nibble_value_finish {
  int32_t rows, channels;
  const int32_t *raw;                  // rows `raw_stride` apart
  const int32_t *raw_low;              // or NULL
  const nibble_weight_start *weights;  // that the sums were made with
  float table_scale;
  const uint16_t *channel_scale;  // bfloat16, or NULL
  const uint16_t *channel_zero;   // float16, or NULL
  float *accumulators;            // rows `stride` apart
  size_t raw_stride, stride;
} nibble_value_finish;

// Sixteen lanes, in whatever registers the instruction set has. Passed by address: a vector
// argument would tie callers to one register width.
typedef float nibble_floats __attribute__((ext_vector_type(16)));
typedef int32_t nibble_ints __attribute__((ext_vector_type(16)));
typedef uint16_t nibble_shorts __attribute__((ext_vector_type(16)));
typedef uint8_t nibble_bytes __attribute__((ext_vector_type(16)));

// Added to a float below 2^22, it rounds it, ties to even, and leaves the integer in the lowest
// bits.
#define NIBBLE_ROUNDING 12582912.0f
#define NIBBLE_ROUND(x) (((x) + NIBBLE_ROUNDING) - NIBBLE_ROUNDING)

NIBBLE_INLINE float nibble_round(float x) { return NIBBLE_ROUND(x); }

NIBBLE_INLINE void nibble_load_floats(const float *source, nibble_floats *result) {
  memcpy(result, source, sizeof *result);
}

NIBBLE_INLINE void nibble_load_ints(const int32_t *source, nibble_floats *result) {
  nibble_ints x;
  memcpy(&x, source, sizeof x);
  *result = __builtin_convertvector(x, nibble_floats);
}

NIBBLE_INLINE void nibble_load_bfloat16(const uint16_t *source, nibble_floats *result) {
  nibble_shorts x;
  memcpy(&x, source, sizeof x);
  const nibble_ints wide = __builtin_convertvector(x, nibble_ints) << 16;
  memcpy(result, &wide, sizeof *result);
}

// As nibble_from_float16, which see.
NIBBLE_INLINE void nibble_load_float16(const uint16_t *source, nibble_floats *result) {
  nibble_shorts x;
  memcpy(&x, source, sizeof x);
  const nibble_ints bits = __builtin_convertvector(x, nibble_ints);
  nibble_ints magnitude = (bits & 0x7fff) << 13;
  nibble_floats value;
  memcpy(&value, &magnitude, sizeof value);
  value *= 0x1p112f;
  memcpy(&magnitude, &value, sizeof magnitude);
  magnitude |= ((bits & 0x7c00) == 0x7c00) & 0x7f800000;
  magnitude |= (bits & 0x8000) << 16;
  memcpy(result, &magnitude, sizeof *result);
}

NIBBLE_INLINE void nibble_store_bytes(const nibble_ints *source, uint8_t *target) {
  const nibble_bytes x = __builtin_convertvector(*source, nibble_bytes);
  memcpy(target, &x, sizeof x);
}

// exp of each lane, 0 below -87. 2^(n + f) with a polynomial of degree 5 on |f| <= 1/2, minimax in
// the relative error: 2e-7 near 0, growing with the rounding of x * log2(e) to 4e-6 at -80.
NIBBLE_INLINE void nibble_exp_lanes(nibble_floats *x) {
  // The polynomial is twice, the power of two half of what they stand for: with n = -126 the
  // exponent of the power is that of zero.
  nibble_floats t = *x * 1.44269504f;
  t = t > -126.0f ? t : (nibble_floats){0} - 126.0f;
  const nibble_floats rounded = t + NIBBLE_ROUNDING;
  const nibble_floats f = t - (rounded - NIBBLE_ROUNDING);
  nibble_floats p = f * (2 * 1.326470877e-3f) + 2 * 9.671511466e-3f;
  p = p * f + 2 * 5.550733776e-2f;
  p = p * f + 2 * 2.402224210e-1f;
  p = p * f + 2 * 6.931469776e-1f;
  p = p * f + 2;
  nibble_ints exponent;
  memcpy(&exponent, &rounded, sizeof exponent);
  exponent = (exponent + 126) << 23;
  nibble_floats power;
  memcpy(&power, &exponent, sizeof power);
  *x = p * power;
}

NIBBLE_INLINE float nibble_exp(float x) {
  nibble_floats lanes = (nibble_floats){0} + x;
  nibble_exp_lanes(&lanes);
  return lanes[0];
}

// Lanes are combined in halves: eight with eight, four with four, ...
NIBBLE_INLINE float nibble_lanes_sum(const nibble_floats *x) {
  typedef float half __attribute__((ext_vector_type(8)));
  typedef float quarter __attribute__((ext_vector_type(4)));
  const half a = __builtin_shufflevector(*x, *x, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(*x, *x, 8, 9, 10, 11, 12, 13, 14, 15);
  const quarter b =
      __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
  return (b[0] + b[2]) + (b[1] + b[3]);
}

NIBBLE_INLINE float nibble_lanes_max(const nibble_floats *x) {
  typedef float half __attribute__((ext_vector_type(8)));
  typedef float quarter __attribute__((ext_vector_type(4)));
  const half lower = __builtin_shufflevector(*x, *x, 0, 1, 2, 3, 4, 5, 6, 7),
             upper = __builtin_shufflevector(*x, *x, 8, 9, 10, 11, 12, 13, 14, 15),
             a = lower > upper ? lower : upper;
  const quarter low = __builtin_shufflevector(a, a, 0, 1, 2, 3),
                high = __builtin_shufflevector(a, a, 4, 5, 6, 7), b = low > high ? low : high;
  const float c = b[0] > b[2] ? b[0] : b[2], d = b[1] > b[3] ? b[1] : b[3];
  return c > d ? c : d;
}

NIBBLE_INLINE void nibble_finish_score_row(const nibble_score_finish *a, int32_t row,
                                           const float *scales, const float *zeros, bool has_low,
                                           bool has_zero, nibble_feed *feed) {
  const nibble_query_terms *terms = &a->terms[row];
  const int32_t *raw = a->raw + row * NIBBLE_MAX_BLOCK_TOKENS,
                *raw_low = has_low ? a->raw_low + row * NIBBLE_MAX_BLOCK_TOKENS : NULL;
  float *scores = a->scores + row * NIBBLE_MAX_BLOCK_TOKENS;
  const float offset = 128.0f * terms->sum, offset_low = 128.0f * terms->sum_low,
              query_sum = has_low ? 256.0f * terms->sum + terms->sum_low : terms->sum,
              scale = terms->scale * a->table_scale, minus = terms->minus * scale,
              minus_zero = a->zero * query_sum;
  nibble_fetch(feed, a->tokens / NIBBLE_LANES);
  for (int32_t t = 0; t < a->tokens; t += NIBBLE_LANES) {
    nibble_floats s, x;
    // Sums stay below 2^24 for up to 512 channels, so they are exact as floats.
    nibble_load_ints(raw + t, &s);
    s -= offset;
    if (has_low) {
      nibble_load_ints(raw_low + t, &x);
      s = 256.0f * s + (x - offset_low);
    }
    if (has_zero) {
      nibble_load_floats(zeros + t, &x);
      s -= x * query_sum;
    } else {
      s -= minus_zero;
    }
    s = s * scale - minus;
    if (a->token_scale) {
      nibble_load_floats(scales + t, &x);
      s *= x;
    }
    if (a->accumulate) {
      nibble_load_floats(scores + t, &x);
      s += x;
    }
    memcpy(scores + t, &s, sizeof s);
  }
}

// The rows of a call share the tokens' scales and zero points: they are widened once.
NIBBLE_INLINE void nibble_widen_side(const uint16_t *token_scale, const uint16_t *token_zero,
                                     float zero, int32_t tokens, float *scales, float *zeros) {
  for (int32_t t = 0; token_scale && t < tokens; t += NIBBLE_LANES) {
    nibble_floats x;
    nibble_load_bfloat16(token_scale + t, &x);
    memcpy(scales + t, &x, sizeof x);
  }
  for (int32_t t = 0; token_zero && t < tokens; t += NIBBLE_LANES) {
    nibble_floats x;
    nibble_load_float16(token_zero + t, &x);
    x += zero;
    memcpy(zeros + t, &x, sizeof x);
  }
}

NIBBLE_INLINE void nibble_finish_scores(const nibble_score_finish *a, nibble_feed *feed) {
  float scales[NIBBLE_MAX_BLOCK_TOKENS], zeros[NIBBLE_MAX_BLOCK_TOKENS];
  nibble_widen_side(a->token_scale, a->token_zero, a->zero, a->tokens, scales, zeros);
  const bool has_zero = a->token_zero != NULL;
  for (int32_t row = 0; row < a->rows; row++)
    if (a->raw_low)
      nibble_finish_score_row(a, row, scales, zeros, true, has_zero, feed);
    else if (has_zero)
      nibble_finish_score_row(a, row, scales, zeros, false, true, feed);
    else
      nibble_finish_score_row(a, row, scales, zeros, false, false, feed);
}

// Turns `rows` rows of scores into weights exp(scale * (score + bias) - maximum), raising the rows'
// running maxima and sums. `factor`: by which what a row accumulated before must shrink; 1 where
// that is nothing. Rows are NIBBLE_MAX_BLOCK_TOKENS apart; tokens are a multiple of 16, and
// invisible ones are -infinity. Phase by phase, so that the rows' chains of operations overlap.
NIBBLE_INLINE void nibble_softmax_rows(float *scores, int32_t tokens, int32_t rows,
                                       const float *bias, float scale, float *maximum, float *sum,
                                       float *factor, nibble_feed *feed) {
  for (int32_t row = 0; row < rows; row++) {
    nibble_floats top_lanes = (nibble_floats){0} - INFINITY;
    const float shift = bias ? bias[row] : 0;
    nibble_fetch(feed, tokens / NIBBLE_LANES);
    for (int32_t t = 0; t < tokens; t += NIBBLE_LANES) {
      nibble_floats s;
      float *at = scores + row * NIBBLE_MAX_BLOCK_TOKENS + t;
      nibble_load_floats(at, &s);
      if (bias) s += shift;
      s *= scale;
      memcpy(at, &s, sizeof s);
      top_lanes = s > top_lanes ? s : top_lanes;
    }
    const float old = maximum[row], block = nibble_lanes_max(&top_lanes);
    const float top = block > old ? block : old;
    factor[row] = top > old && old > -INFINITY ? nibble_exp(old - top) : 1;
    maximum[row] = top;
  }
  for (int32_t row = 0; row < rows; row++) {
    // Nothing visible so far: any finite maximum turns -infinity into weights of zero.
    const float top = maximum[row] == -INFINITY ? 0 : maximum[row];
    nibble_floats sum_lanes = {0};
    nibble_fetch(feed, tokens / NIBBLE_LANES);
    for (int32_t t = 0; t < tokens; t += NIBBLE_LANES) {
      nibble_floats s;
      float *at = scores + row * NIBBLE_MAX_BLOCK_TOKENS + t;
      nibble_load_floats(at, &s);
      s -= top;
      nibble_exp_lanes(&s);
      memcpy(at, &s, sizeof s);
      sum_lanes += s;
    }
    sum[row] = sum[row] * factor[row] + nibble_lanes_sum(&sum_lanes);
  }
}

NIBBLE_INLINE void nibble_start_weight_row(nibble_weight_start *a, int32_t row, const float *scales,
                                           const float *zeros, bool has_low, bool has_zero,
                                           bool has_sum, nibble_feed *feed) {
  const int32_t first = row * NIBBLE_MAX_BLOCK_TOKENS;
  nibble_floats scaled[NIBBLE_MAX_BLOCK_TOKENS / NIBBLE_LANES];
  nibble_floats top_lanes = {0};
  nibble_fetch(feed, a->tokens / NIBBLE_LANES);
  for (int32_t t = 0; t < a->tokens; t += NIBBLE_LANES) {
    nibble_floats w, x;
    nibble_load_floats(a->weights + first + t, &w);
    if (a->token_scale) {
      nibble_load_floats(scales + t, &x);
      w *= x;
    }
    scaled[t / NIBBLE_LANES] = w;
    top_lanes = w > top_lanes ? w : top_lanes;
  }
  const float top = nibble_lanes_max(&top_lanes), units = has_low ? 65535.0f : 255.0f;
  const float inverse = top > 1e-30f ? units / top : 0;
  a->scale[row] = top > 1e-30f ? top * (1 / units) : 0;
  nibble_floats sum = {0}, zero_sum = {0};
  for (int32_t t = 0; t < a->tokens; t += NIBBLE_LANES) {
    const nibble_floats rounded = scaled[t / NIBBLE_LANES] * inverse + NIBBLE_ROUNDING,
                        w = rounded - NIBBLE_ROUNDING;
    nibble_ints q;
    memcpy(&q, &rounded, sizeof q);
    if (has_sum) sum += w;
    if (has_zero) {
      nibble_floats z;
      nibble_load_floats(zeros + t, &z);
      zero_sum += w * z;
    }
    if (has_low) {
      const nibble_ints low = q & 255;
      nibble_store_bytes(&low, a->low + first + t);
      q >>= 8;
    }
    nibble_store_bytes(&q, a->high + first + t);
  }
  a->sum[row] = has_sum ? nibble_lanes_sum(&sum) : 0;
  a->zero_sum[row] = has_zero ? nibble_lanes_sum(&zero_sum) : a->zero * a->sum[row];
}

NIBBLE_INLINE void nibble_start_weights(nibble_weight_start *a, nibble_feed *feed) {
  float scales[NIBBLE_MAX_BLOCK_TOKENS], zeros[NIBBLE_MAX_BLOCK_TOKENS];
  nibble_widen_side(a->token_scale, a->token_zero, a->zero, a->tokens, scales, zeros);
  for (int32_t row = 0; row < a->rows; row++)
    if (a->low)
      nibble_start_weight_row(a, row, scales, zeros, true, a->token_zero != NULL, true, feed);
    else if (a->token_zero && a->wants_sum)
      nibble_start_weight_row(a, row, scales, zeros, false, true, true, feed);
    else if (a->token_zero)
      nibble_start_weight_row(a, row, scales, zeros, false, true, false, feed);
    else if (a->wants_sum)
      nibble_start_weight_row(a, row, scales, zeros, false, false, true, feed);
    else
      nibble_start_weight_row(a, row, scales, zeros, false, false, false, feed);
}

NIBBLE_INLINE void nibble_finish_value_row(const nibble_value_finish *a, int32_t row, bool has_low,
                                           nibble_feed *feed) {
  const int32_t *raw = a->raw + (size_t)row * a->raw_stride,
                *raw_low = has_low ? a->raw_low + (size_t)row * a->raw_stride : NULL;
  float *accumulator = a->accumulators + (size_t)row * a->stride;
  const float zero_sum = a->weights->zero_sum[row], scale = a->weights->scale[row] * a->table_scale;
  nibble_fetch(feed, a->channels / NIBBLE_LANES);
  int32_t d = 0;
  for (; d + NIBBLE_LANES <= a->channels; d += NIBBLE_LANES) {
    nibble_floats v, x;
    nibble_load_ints(raw + d, &v);
    if (has_low) {
      nibble_load_ints(raw_low + d, &x);
      v = 256.0f * v + x;
    }
    nibble_load_floats(accumulator + d, &x);
    x += (v - zero_sum) * scale;
    memcpy(accumulator + d, &x, sizeof x);
  }
  // Channels without codes may follow: they keep what they have.
  for (; d < a->channels; d++) {
    const float v = has_low ? 256.0f * (float)raw[d] + (float)raw_low[d] : (float)raw[d];
    accumulator[d] += (v - zero_sum) * scale;
  }
}

// With scales or zero points by channel, of which there may be fewer than lanes.
NIBBLE_INLINE void nibble_finish_value_channels(const nibble_value_finish *a, int32_t row) {
  const nibble_weight_start *weights = a->weights;
  const float scale = weights->scale[row] * a->table_scale;
  for (int32_t d = 0; d < a->channels; d++) {
    const size_t at = (size_t)row * a->raw_stride + (size_t)d;
    float v = (float)a->raw[at];
    if (a->raw_low) v = 256.0f * v + (float)a->raw_low[at];
    v = v - weights->zero_sum[row];
    if (a->channel_zero) v = v - nibble_from_float16(a->channel_zero[d]) * weights->sum[row];
    v = v * scale;
    if (a->channel_scale) v = v * nibble_from_bfloat16(a->channel_scale[d]);
    a->accumulators[(size_t)row * a->stride + (size_t)d] += v;
  }
}

NIBBLE_INLINE void nibble_finish_values(const nibble_value_finish *a, nibble_feed *feed) {
  for (int32_t row = 0; row < a->rows; row++)
    if (a->channel_scale || a->channel_zero)
      nibble_finish_value_channels(a, row);
    else if (a->raw_low)
      nibble_finish_value_row(a, row, true, feed);
    else
      nibble_finish_value_row(a, row, false, feed);
}

NIBBLE_INLINE void nibble_combine_floats(float *result, float a, const float *source, float b,
                                         size_t n) {
  for (size_t i = 0; i < n; i++) result[i] = result[i] * a + source[i] * b;
}

NIBBLE_INLINE float nibble_dot_floats(const float *a, const float *b, size_t n) {
  nibble_floats sum = {0};
  size_t i = 0;
  for (; i + NIBBLE_LANES <= n; i += NIBBLE_LANES) {
    nibble_floats x, y;
    nibble_load_floats(a + i, &x);
    nibble_load_floats(b + i, &y);
    sum += x * y;
  }
  float rest = 0;
  for (; i < n; i++) rest += a[i] * b[i];
  return nibble_lanes_sum(&sum) + rest;
}

// Rounds a query to int8, or to int16 as 256 * high + low. Scale: the value of one unit of what the
// integers stand for.
NIBBLE_INLINE void nibble_quantize_floats(const float *query, int32_t channels, bool halves,
                                          int8_t *high, int8_t *low, float *scale) {
  const int32_t whole = channels & -NIBBLE_LANES;
  nibble_floats top_lanes = {0};
  for (int32_t d = 0; d < whole; d += NIBBLE_LANES) {
    nibble_floats x;
    nibble_load_floats(query + d, &x);
    x = x < 0.0f ? -x : x;
    top_lanes = x > top_lanes ? x : top_lanes;
  }
  float top = nibble_lanes_max(&top_lanes);
  for (int32_t d = whole; d < channels; d++) top = fabsf(query[d]) > top ? fabsf(query[d]) : top;
  const float units = halves ? 32512.0f : 127.0f;
  const float inverse = top > 1e-30f ? units / top : 0;
  *scale = top > 1e-30f ? top / units : 0;
  for (int32_t d = 0; d < whole; d += NIBBLE_LANES) {
    nibble_floats x;
    nibble_load_floats(query + d, &x);
    nibble_ints q = __builtin_convertvector(NIBBLE_ROUND(x * inverse), nibble_ints);
    if (halves) {
      const nibble_ints upper = (q + 128) >> 8, lower = q - (upper << 8);
      nibble_store_bytes(&lower, (uint8_t *)low + d);
      q = upper;
    }
    nibble_store_bytes(&q, (uint8_t *)high + d);
  }
  for (int32_t d = whole; d < channels; d++) {
    const int32_t q = (int32_t)nibble_round(query[d] * inverse),
                  upper = halves ? (q + 128) >> 8 : q;
    high[d] = (int8_t)upper;
    if (halves) low[d] = (int8_t)(q - 256 * upper);
  }
}

// The number of thresholds that a value exceeds: of two entries at the same distance, the lower
// one.
NIBBLE_INLINE void nibble_nearest_codes(const float *values, size_t count, float inverse_scale,
                                        const float *thresholds, int32_t levels, uint8_t *codes) {
  size_t i = 0;
  for (; i + NIBBLE_LANES <= count; i += NIBBLE_LANES) {
    nibble_floats x;
    nibble_load_floats(values + i, &x);
    x *= inverse_scale;
    nibble_ints code = {0};
    for (int32_t k = 0; k + 1 < levels; k++) code -= x > (nibble_floats){0} + thresholds[k];
    nibble_store_bytes(&code, codes + i);
  }
  for (; i < count; i++) {
    const float x = values[i] * inverse_scale;
    int32_t code = 0;
    for (int32_t k = 0; k + 1 < levels; k++) code += x > thresholds[k];
    codes[i] = (uint8_t)code;
  }
}

NIBBLE_INLINE void nibble_even_codes(const float *values, size_t count, float inverse_scale,
                                     float zero, float top, uint8_t *codes) {
  for (size_t i = 0; i < count; i++) {
    float x = values[i] * inverse_scale + zero;
    x = x < 0 ? 0 : x > top ? top : x;
    codes[i] = (uint8_t)(int32_t)(x + 0.5f);
  }
}

NIBBLE_INLINE void nibble_hadamard_floats(float *x, int32_t n, const float *signs, float factor) {
  for (int32_t i = 0; i < n; i++) x[i] *= signs[i];
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
