// Summaries of pages, and what attention leaves out by them.
//
// A key of a page is the page's centre c and a deviation whose part in channels g has at most the
// norm r_g, so a query's scores in the page are at most q.c + sum over g of |q_g| r_g. A token may
// be left out if its weight is at most `share` of a lower bound of the row's total: sums of weights
// only grow, so any sum that is known bounds the total, whatever comes later.
#include "skip.h"

#include <math.h>

#include "float_parts.h"

enum { CHANNELS = NIBBLE_SUMMARY_CHANNELS, GROUPS = NIBBLE_MAX_CHANNELS / CHANNELS };

// More than what rounding can take from a bound: sums of up to 512 products, over 16 partial sums.
static const float SLACK = 0x1p-16f;

static int32_t group_count(int32_t channels) { return (channels + CHANNELS - 1) / CHANNELS; }

// ---- Making summaries

static const float LARGEST_FLOAT16 = 65504;

size_t nibble_summary_bytes(int32_t channels) {
  return ((size_t)(channels + group_count(channels)) * sizeof(uint16_t) + 3) & ~(size_t)3;
}

// The mean of a channel. Any centre will do, because radii refer to what is stored.
static uint16_t center_of(const float *rows, int32_t tokens, int32_t channels, int32_t d) {
  double sum = 0;
  for (int32_t t = 0; t < tokens; t++) sum += (double)rows[t * channels + d];
  const float mean = (float)(sum / tokens);
  return nibble_to_float16(mean > LARGEST_FLOAT16    ? LARGEST_FLOAT16
                           : mean < -LARGEST_FLOAT16 ? -LARGEST_FLOAT16
                                                     : mean);
}

// The largest distance of a token from the centre, in channels first ..< last.
static double radius_of(const float *rows, int32_t tokens, int32_t channels, int32_t first,
                        int32_t last, const uint16_t *center) {
  double most = 0;
  for (int32_t t = 0; t < tokens; t++) {
    double square = 0;
    for (int32_t d = first; d < last; d++) {
      const double x = (double)rows[t * channels + d] - (double)nibble_from_float16(center[d]);
      square += x * x;
    }
    most = square > most ? square : most;
  }
  return sqrt(most);
}

// The next bfloat16 that is not below a number; infinity beyond them.
static uint16_t bfloat16_above(double value) {
  const float above = (float)(value * (1 + 0x1p-20));
  uint32_t bits;
  memcpy(&bits, &above, sizeof bits);
  return (uint16_t)((bits + 0xffff) >> 16);
}

void nibble_summarize(const float *rows, int32_t tokens, int32_t channels, uint8_t *summary) {
  uint16_t *center = (uint16_t *)(void *)summary, *radius = center + channels;
  memset(summary, 0, nibble_summary_bytes(channels));
  for (int32_t d = 0; d < channels; d++) center[d] = center_of(rows, tokens, channels, d);
  for (int32_t first = 0; first < channels; first += CHANNELS) {
    const int32_t last = first + CHANNELS < channels ? first + CHANNELS : channels;
    radius[first / CHANNELS] =
        bfloat16_above(radius_of(rows, tokens, channels, first, last, center));
  }
}

// ---- Bounds of scores

static void measure_query(const float *query, int32_t channels, float *norms) {
  for (int32_t g = 0; g < group_count(channels); g++) {
    double square = 0;
    for (int32_t d = g * CHANNELS; d < channels && d < (g + 1) * CHANNELS; d++)
      square += (double)query[d] * (double)query[d];
    norms[g] = (float)sqrt(square) * (1 + 2 * SLACK);
  }
}

static const float *query_of(const nibble_rows *rows, int32_t row, int32_t channels) {
  return rows->queries + (size_t)row * (size_t)channels;
}

// A summary as floats, with zeros up to whole groups.
typedef struct {
  float center[NIBBLE_MAX_CHANNELS];
  float radius[GROUPS];
} wide_summary;

static void widen(const uint8_t *summary, int32_t channels, wide_summary *wide) {
  const uint16_t *center = (const uint16_t *)(const void *)summary, *radius = center + channels;
  int32_t d = 0;
  for (; d + NIBBLE_LANES <= channels; d += NIBBLE_LANES) {
    nibble_floats x;
    nibble_load_float16(center + d, &x);
    memcpy(wide->center + d, &x, sizeof x);
  }
  for (; d < channels; d++) wide->center[d] = nibble_from_float16(center[d]);
  for (int32_t g = 0; g < group_count(channels); g++)
    wide->radius[g] = nibble_from_bfloat16(radius[g]);
}

// No score of the page, before bias and scale, is above this.
static float largest_product(const float *query, int32_t channels, const float *norms,
                             const wide_summary *summary) {
  nibble_floats sum = {0}, size = {0};
  int32_t d = 0;
  for (; d + NIBBLE_LANES <= channels; d += NIBBLE_LANES) {
    nibble_floats x, c;
    nibble_load_floats(query + d, &x);
    nibble_load_floats(summary->center + d, &c);
    x *= c;
    sum += x;
    size += x < 0.0f ? -x : x;
  }
  float along = nibble_lanes_sum(&sum), across = SLACK * nibble_lanes_sum(&size);
  for (; d < channels; d++) {
    const float x = query[d] * summary->center[d];
    along += x;
    across += SLACK * fabsf(x);
  }
  for (int32_t g = 0; g < group_count(channels); g++) across += norms[g] * summary->radius[g];
  return along + across;
}

// No score of the page is above this. Caps are monotone, so they keep the bound one.
static float largest_score(const nibble_rows *rows, int32_t row, int32_t channels,
                           const float *norms, const wide_summary *summary) {
  const float product = largest_product(query_of(rows, row, channels), channels, norms, summary);
  const float bias = rows->bias ? rows->bias[row] : 0;
  float score = (product + bias + SLACK / 64 * (fabsf(product) + fabsf(bias))) * rows->scale;
  if (rows->soft_cap > 0) score = rows->soft_cap * tanhf(score / rows->soft_cap);
  return score + SLACK / 64 * fabsf(score);
}

float nibble_test_score_bound(const nibble_rows *rows, int32_t row, int32_t channels,
                              const uint8_t *summary) {
  nibble_query_norms norms;
  wide_summary wide;
  measure_query(query_of(rows, row, channels), channels, norms);
  widen(summary, channels, &wide);
  return largest_score(rows, row, channels, norms, &wide);
}

// ---- Pages

void nibble_start_skipping(const nibble_rows *rows, int32_t channels, nibble_query_norms *norms) {
  for (int32_t row = 0; row < rows->count; row++)
    measure_query(query_of(rows, row, channels), channels, norms[row]);
}

static bool sees_page(const nibble_rows *rows, int32_t row, int64_t position, int32_t present) {
  const int64_t newest = rows->positions[row], oldest = newest - rows->window + 1;
  return position <= newest && (rows->window == 0 || position + present > oldest);
}

// Whether a token of this score has at most its share of a row's weight. Looks at the running sum
// only where what is known so far does not decide.
static bool is_below_share(const nibble_skip *skip, const nibble_partial *partial, int32_t row,
                           float score) {
  if (!isfinite(score)) return false;
  const float share = logf(skip->share);
  if (score <= skip->known[row] + share) return true;
  const float running = partial->maximum[row] + logf(partial->sum[row]);
  if (running > skip->known[row]) skip->known[row] = running;
  return score <= skip->known[row] + share;
}

static bool is_below_shares(const nibble_rows *rows, const nibble_partial *partial,
                            int32_t channels, const nibble_query_norms *norms,
                            const uint8_t *summary, int64_t position, int32_t present) {
  wide_summary wide;
  widen(summary, channels, &wide);
  for (int32_t row = 0; row < rows->count; row++) {
    if (!sees_page(rows, row, position, present)) continue;
    const float score = largest_score(rows, row, channels, norms[row], &wide);
    if (!is_below_share(rows->skip, partial, row, score)) return false;
  }
  return true;
}

bool nibble_skips_page(const nibble_rows *rows, const nibble_partial *partial, int32_t channels,
                       const nibble_query_norms *norms, const uint8_t *page, const uint8_t *next,
                       int64_t position, int32_t present) {
  nibble_skip *skip = rows->skip;
  bool skips = false;
  if (skip->summary >= 0) {
    for (size_t i = 0; i < nibble_summary_bytes(channels); i += 64)
      __builtin_prefetch(next + skip->summary + i, 0, 3);
    skips =
        is_below_shares(rows, partial, channels, norms, page + skip->summary, position, present);
  }
  *(skips ? &skip->skipped_pages : &skip->attended_pages) += 1;
  return skips;
}

// ---- Values

// Whether a sum of weights, relative to the row's maximum, is at most `share` of the row's total.
static bool is_negligible(const nibble_skip *skip, const nibble_partial *partial, int32_t row,
                          float sum, float share) {
  if (sum <= share * partial->sum[row]) return true;
  return sum <= share * expf(skip->known[row] - partial->maximum[row]);
}

bool nibble_skips_values(const nibble_rows *rows, const nibble_partial *partial, int32_t first,
                         int32_t count, const float *weights, int32_t tokens) {
  nibble_skip *skip = rows->skip;
  const float share = skip->share * (float)tokens;
  bool skips = true;
  for (int32_t i = 0; skips && i < count; i++) {
    nibble_floats sum = {0}, x;
    for (int32_t t = 0; t < tokens; t += NIBBLE_LANES) {
      nibble_load_floats(weights + i * NIBBLE_MAX_BLOCK_TOKENS + t, &x);
      sum += x;
    }
    skips = is_negligible(skip, partial, first + i, nibble_lanes_sum(&sum), share);
  }
  *(skips ? &skip->skipped_stretches : &skip->attended_stretches) += 1;
  return skips;
}
