// Codes of keys chosen for scores: what rounding does to a key is shaped so that it is small in the
// directions that queries look in. With M the second moments of the queries, an error e costs
// e^T M e. Coordinate descent on that cost from the nearest codes on, by single levels (Behdin et
// al., "QuantEase", 2023); what it reaches is the error feedback of LDLQ (Chee et al., "QuIP",
// 2023) without an order of channels.
#include "encode.h"

enum { SWEEPS = 3, MAX_LEVELS = 256 };

typedef struct {
  const nibble_kernels *kernels;
  const float *metric;  // [channels][channels]
  int32_t channels, levels;
  float values[MAX_LEVELS];           // what each code of the token stands for
  float errors[NIBBLE_MAX_CHANNELS];  // of the row
  float slopes[NIBBLE_MAX_CHANNELS];  // metric times errors
} shaping;

static void list_values(shaping *s, const nibble_strip *strip, const uint8_t *side, int32_t token) {
  const nibble_table table = nibble_table_of(strip, side);
  float zero = table.zero, scale = table.scale;
  if (strip->token_zero >= 0)
    zero += nibble_from_float16(nibble_side_value(side, strip->token_zero, token));
  if (strip->token_scale >= 0)
    scale *= nibble_from_bfloat16(nibble_side_value(side, strip->token_scale, token));
  for (int32_t k = 0; k < s->levels; k++) {
    const float entry = strip->kind == NIBBLE_INT8 ? (float)(k - 128) : (float)table.entries[k];
    s->values[k] = (entry - zero) * scale;
  }
}

static void start_row(shaping *s, const float *row, const uint8_t *codes) {
  const int32_t channels = s->channels;
  for (int32_t d = 0; d < channels; d++) s->errors[d] = row[d] - s->values[codes[d]];
  for (int32_t d = 0; d < channels; d++)
    s->slopes[d] = s->kernels->dot_floats(s->metric + d * channels, s->errors, (size_t)channels);
}

// Moves one code to a neighbour if that lowers the cost; true if it did.
static bool improve(shaping *s, int32_t d, uint8_t *code) {
  const float *row = s->metric + d * s->channels;
  float least = 0, step = 0;
  uint8_t best = *code;
  for (int32_t k = *code - 1; k <= *code + 1; k += 2) {
    if (k < 0 || k >= s->levels) continue;
    const float change = s->values[k] - s->values[*code],
                cost = change * (change * row[d] - 2 * s->slopes[d]);
    if (cost < least) {
      least = cost;
      step = change;
      best = (uint8_t)k;
    }
  }
  if (best == *code) return false;
  *code = best;
  s->kernels->combine(s->slopes, 1, row, -step, (size_t)s->channels);
  return true;
}

void nibble_shape_codes(const nibble_strip *strip, const float *metric, const float *rows,
                        const uint8_t *side, uint8_t *codes) {
  shaping s = {.kernels = nibble_current_kernels(),
               .metric = metric,
               .channels = strip->channels,
               .levels = strip->levels};
  for (int32_t token = 0; token < strip->tokens; token++) {
    uint8_t *row_codes = codes + token * s.channels;
    list_values(&s, strip, side, token);
    start_row(&s, rows + token * s.channels, row_codes);
    bool is_changed = true;
    for (int32_t sweep = 0; sweep < SWEEPS && is_changed; sweep++) {
      is_changed = false;
      for (int32_t d = 0; d < s.channels; d++) is_changed |= improve(&s, d, &row_codes[d]);
    }
  }
}
