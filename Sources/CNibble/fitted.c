// A table fitted to each strip: weighted k-means over a histogram of its scaled values.
#include "encode.h"

enum {
  HISTOGRAM_BINS = 256,
  MAX_TOKENS = 1024,
  MAX_FITTED_BLOCKS = MAX_TOKENS / NIBBLE_MAX_BLOCK_TOKENS,
};

typedef struct {
  float *scaled;            // [tokens][channels]
  double *weight, *moment;  // [HISTOGRAM_BINS]
} fitted_memory;

static size_t scaled_bytes(const nibble_strip *strip) {
  return (size_t)strip->tokens * (size_t)strip->channels * sizeof(float);
}

size_t nibble_fitted_scratch_bytes(const nibble_strip *strip) {
  return nibble_whole_lines(scaled_bytes(strip)) + 2 * HISTOGRAM_BINS * sizeof(double);
}

static fitted_memory divide(uint8_t *rest) {
  fitted_memory m;
  m.weight = (void *)nibble_take(&rest, HISTOGRAM_BINS * sizeof(double));
  m.moment = (void *)nibble_take(&rest, HISTOGRAM_BINS * sizeof(double));
  m.scaled = (void *)rest;
  return m;
}

// Rows (or channels, or nothing) brought to unit scale, with each value's share of the squared
// error as its weight.
static void normalize(const nibble_kernels *kernels, const nibble_strip *strip, const float *rows,
                      uint8_t *side, const fitted_memory *m, float *row_weight,
                      float *channel_weight) {
  const int32_t channels = strip->channels, tokens = strip->block_tokens;
  memcpy(m->scaled, rows, (size_t)(strip->tokens * channels) * sizeof *rows);
  for (int32_t t = 0; t < strip->tokens; t++) row_weight[t] = 1;
  for (int32_t i = 0; i < strip->tokens / tokens * channels; i++) channel_weight[i] = 1;
  if (strip->token_scale >= 0)
    for (int32_t t = 0; t < strip->tokens; t++) {
      float *row = m->scaled + (size_t)(t * channels);
      const float scale = nibble_stored_scale(side, strip->token_scale, t,
                                              nibble_root_mean_square(kernels, row, channels));
      for (int32_t d = 0; d < channels; d++) row[d] *= nibble_inverse(scale);
      row_weight[t] = scale;
    }
  if (strip->channel_scale >= 0)
    for (int32_t block = 0; block * tokens < strip->tokens; block++)
      for (int32_t d = 0; d < channels; d++) {
        float column[NIBBLE_MAX_BLOCK_TOKENS];
        float *first = m->scaled + (size_t)(block * tokens * channels + d);
        for (int32_t t = 0; t < tokens; t++) column[t] = first[(size_t)(t * channels)];
        const float scale = nibble_stored_scale(side, strip->channel_scale, block * channels + d,
                                                nibble_root_mean_square(kernels, column, tokens));
        for (int32_t t = 0; t < tokens; t++) first[(size_t)(t * channels)] *= nibble_inverse(scale);
        channel_weight[block * channels + d] = scale;
      }
}

// Squares of weights relative to the largest, so that nothing overflows.
static void square_shares(float *weights, int32_t count) {
  float top = 0;
  for (int32_t i = 0; i < count; i++) top = weights[i] > top ? weights[i] : top;
  for (int32_t i = 0; i < count; i++) {
    const float share = top > 0 ? weights[i] / top : 0;
    weights[i] = share * share;
  }
}

// Fills the histogram with weights, and with the moments that make its centroids exact within a
// bin.
static void fill_histogram(const nibble_strip *strip, const fitted_memory *m, float low,
                           float bins_per_unit, const float *row_share,
                           const float *channel_share) {
  memset(m->weight, 0, HISTOGRAM_BINS * sizeof(double));
  memset(m->moment, 0, HISTOGRAM_BINS * sizeof(double));
  const float *scaled = m->scaled;
  for (int32_t t = 0; t < strip->tokens; t++) {
    const float *of_block = channel_share + t / strip->block_tokens * strip->channels;
    for (int32_t d = 0; d < strip->channels; d++, scaled++) {
      const float x = (*scaled - low) * bins_per_unit;
      int32_t bin = (int32_t)x;
      bin = bin < 0 ? 0 : bin >= HISTOGRAM_BINS ? HISTOGRAM_BINS - 1 : bin;
      const float share = row_share[t] * of_block[d];
      m->weight[bin] += (double)share;
      m->moment[bin] += (double)(share * x);
    }
  }
}

void nibble_encode_fitted(const nibble_strip *strip, const float *rows, uint8_t *side,
                          uint8_t *codes, uint8_t *scratch) {
  const nibble_kernels *kernels = nibble_current_kernels();
  const fitted_memory memory = divide(scratch), *m = &memory;
  const int32_t levels = strip->levels;
  float row_weight[MAX_TOKENS], channel_weight[MAX_FITTED_BLOCKS * NIBBLE_MAX_CHANNELS], low, high;
  const size_t count = (size_t)strip->tokens * (size_t)strip->channels;
  normalize(kernels, strip, rows, side, m, row_weight, channel_weight);
  nibble_limits(m->scaled, (int32_t)count, 1, &low, &high);
  square_shares(row_weight, strip->tokens);
  square_shares(channel_weight, strip->tokens / strip->block_tokens * strip->channels);
  const float range = high - low;
  double centroid[NIBBLE_TABLE_ENTRIES];
  // Below this range bins per unit would overflow: such values are one value for every purpose.
  if (range > 1e-35f) {
    fill_histogram(strip, m, low, HISTOGRAM_BINS / range, row_weight, channel_weight);
    nibble_kmeans_histogram(m->weight, m->moment, HISTOGRAM_BINS, levels, centroid);
  } else {
    for (int32_t k = 0; k < levels; k++) centroid[k] = HISTOGRAM_BINS / 2;
  }
  // The table: centroids as signed bytes about the middle of the outermost two.
  const double unit = (double)range / HISTOGRAM_BINS;
  const double first = low + centroid[0] * unit, last = low + centroid[levels - 1] * unit;
  const float scale = last > first ? (float)((last - first) / 254) : 0;
  const float middle = (float)((first + last) / 2);
  // A strip of one value: the zero point alone carries it.
  const float step = scale > 0 ? scale : fabsf(middle);
  const float zero = step > 0 ? -middle / step : 0;
  int8_t table[NIBBLE_TABLE_ENTRIES] = {0};
  float entries[NIBBLE_TABLE_ENTRIES], thresholds[NIBBLE_TABLE_ENTRIES];
  for (int32_t k = 0; k < levels; k++) {
    const double x = low + centroid[k] * unit;
    table[k] = scale > 0 ? (int8_t)lrint((x - (double)middle) / (double)scale) : 0;
    entries[k] = ((float)table[k] - zero) * step;
  }
  memcpy(side + strip->table, table, sizeof table);
  memcpy(side + strip->table + NIBBLE_TABLE_ENTRIES, &step, sizeof step);
  memcpy(side + strip->table + NIBBLE_TABLE_ENTRIES + 4, &zero, sizeof zero);
  nibble_thresholds(entries, levels, thresholds);
  kernels->nearest_entries(m->scaled, count, 1, thresholds, levels, codes);
}
