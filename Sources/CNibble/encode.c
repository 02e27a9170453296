// Rows to codes and back.
#include <math.h>
#include <string.h>

#include "encode.h"

typedef struct {
  uint8_t *codes;  // [tokens][channels]
  uint8_t (*tiles)[NIBBLE_TILE];
  uint8_t *rest;
} encode_memory;

static size_t tiles_of(const nibble_strip *strip) {
  return nibble_whole_tiles(strip->is_values, strip->block_tokens, strip->channels);
}

static size_t code_scratch_bytes(const nibble_strip *strip) {
  if (nibble_is_trellis(strip->kind)) return nibble_trellis_scratch_bytes(strip);
  if (nibble_has_selectors(strip->kind)) return nibble_bcq_scratch_bytes(strip);
  const size_t values = (size_t)strip->tokens * (size_t)strip->channels;
  return nibble_whole_lines(values) + tiles_of(strip) * NIBBLE_TILE +
         (strip->rule == NIBBLE_RULE_FITTED ? nibble_fitted_scratch_bytes(strip) : 0);
}

static size_t outlier_scratch_bytes(const nibble_strip *strip) {
  if (strip->outliers < 0) return 0;
  const size_t count = (size_t)(strip->tokens / strip->block_tokens) * (size_t)strip->outlier_count;
  return nibble_whole_lines(count * sizeof(float));
}

size_t nibble_encode_scratch_bytes(const nibble_strip *strip) {
  size_t most = 0;
  for (int32_t i = 0; i < strip->parts; i++) {
    const size_t bytes = code_scratch_bytes(strip + i);
    most = bytes > most ? bytes : most;
  }
  return outlier_scratch_bytes(strip) +
         (strip->fits_scales ? nibble_parts_scratch_bytes(strip) : 0) + most;
}

static encode_memory divide(const nibble_strip *strip, uint8_t *rest) {
  encode_memory m;
  m.codes = nibble_take(&rest, (size_t)strip->tokens * (size_t)strip->channels);
  m.tiles = (void *)nibble_take(&rest, tiles_of(strip) * NIBBLE_TILE);
  m.rest = rest;
  return m;
}

void nibble_strip_measure(nibble_strip *strip, int32_t count) {
  int32_t channel = 0, bytes = 0;
  for (int32_t i = 0; i < count; i++) {
    nibble_strip *part = strip + i;
    part->parts = count - i;
    part->first_channel = channel;
    part->code_offset = bytes;
    part->code_bytes = part->tokens / part->block_tokens * nibble_strip_block_bytes(part);
    channel += part->channels;
    bytes += part->code_bytes;
  }
}

static void pack(const nibble_strip *strip, const encode_memory *m, uint8_t *codes) {
  const size_t values = (size_t)(strip->block_tokens * strip->channels);
  for (int32_t block = 0; block * strip->block_tokens < strip->tokens; block++)
    nibble_pack_block(strip, m->codes + (size_t)block * values, m->tiles,
                      codes + (size_t)block * (size_t)nibble_strip_block_bytes(strip));
}

// ---- Scales

// Levels 0 ... top of one set of values that share a scale: value = (code - zero) * scale.
static float level_scale(float low, float high, float top) {
  float scale = (high - low) / top;
  // The zero point is a float16 in units of the scale: keep it within range for values far from
  // zero.
  const float far = fabsf(low) > fabsf(high) ? fabsf(low) : fabsf(high);
  return scale > far / 60000.0f ? scale : far / 60000.0f;
}

// int8 codes are stored signed: the level 0 is the code -128.
static float stored_zero(const nibble_strip *strip, uint8_t *side, int32_t offset, int32_t index,
                         float zero) {
  const float shift = strip->kind == NIBBLE_INT8 ? 128 : 0;
  const uint16_t bits = nibble_to_float16(zero - shift);
  *nibble_side_at(side, offset, index) = bits;
  return nibble_from_float16(bits) + shift;
}

static void sign_int8(const nibble_strip *strip, uint8_t *codes) {
  if (strip->kind != NIBBLE_INT8) return;
  const size_t count = (size_t)strip->tokens * (size_t)strip->channels;
  for (size_t i = 0; i < count; i++) codes[i] ^= 0x80;
}

// ---- Evenly spaced levels

typedef struct {
  float scale, inverse_spacing, zero;
} even_levels;

// Chooses, stores and reads back the scale (and zero point) of one set of values. Symmetric tables
// use every level: 2 * code - (levels - 1) units of the scale; symmetric int8 has a level at zero.
static even_levels choose_levels(const nibble_strip *strip, bool has_zero, int32_t levels,
                                 float low, float high, uint8_t *side, int32_t scale_offset,
                                 int32_t zero_offset, int32_t index) {
  const float top = (float)(levels - 1), far = -low > high ? -low : high;
  const bool is_int8 = strip->kind == NIBBLE_INT8;
  even_levels result;
  result.scale = has_zero ? level_scale(low, high, top) : is_int8 ? far / 127 : far / top;
  result.scale = nibble_stored_scale(side, scale_offset, index, result.scale);
  result.inverse_spacing =
      has_zero || is_int8 ? nibble_inverse(result.scale) : 0.5f * nibble_inverse(result.scale);
  result.zero =
      has_zero  ? stored_zero(strip, side, zero_offset, index, -low * nibble_inverse(result.scale))
      : is_int8 ? 128
                : 0.5f * top;
  return result;
}

enum { CLIP_STEPS = 16, LONGEST_SET = NIBBLE_MAX_CHANNELS };

// How the sets of values that share a scale are encoded.
typedef struct {
  const nibble_kernels *kernels;
  const nibble_strip *strip;
  bool has_zero, is_clipped;
  int32_t levels;
  uint8_t *side;
  int32_t scale_offset, zero_offset;
} even_rule;

// The squared error of codes against the values that they stand for.
static float squared_error(const even_rule *rule, const even_levels *chosen, const float *values,
                           int32_t count, const uint8_t *codes) {
  float errors[LONGEST_SET];
  // A symmetric level is half as far from its neighbour as the scale says.
  const float spacing =
      rule->has_zero || rule->strip->kind == NIBBLE_INT8 ? chosen->scale : 2 * chosen->scale;
  for (int32_t i = 0; i < count; i++)
    errors[i] = values[i] * chosen->inverse_spacing -
                (((float)codes[i] - chosen->zero) * spacing) * chosen->inverse_spacing;
  // In units of the spacing, so that nothing overflows; brought to those of the range by the
  // caller.
  return rule->kernels->dot_floats(errors, errors, (size_t)count);
}

// Encodes one set. Clipping tries the whole range and ever smaller parts of it about its middle.
static void encode_set(const even_rule *rule, const float *values, int32_t count, int32_t index,
                       uint8_t *codes) {
  const nibble_strip *strip = rule->strip;
  float low, high, least = 0, whole = 0;
  int32_t best = 0;
  nibble_limits(values, count, 1, &low, &high);
  const int32_t steps = rule->is_clipped ? CLIP_STEPS : 0;
  // The last turn encodes with the best step.
  for (int32_t turn = 0; turn <= steps; turn++) {
    const int32_t step = turn < steps ? turn : best;
    const float cut = (0.02f * (float)step) * (high - low), factor = 1 - 0.04f * (float)step;
    float first = low, last = high;
    if (step > 0) {
      first = rule->has_zero ? low + cut : low * factor;
      last = rule->has_zero ? high - cut : high * factor;
    }
    const even_levels chosen =
        choose_levels(strip, rule->has_zero, rule->levels, first, last, rule->side,
                      rule->scale_offset, rule->zero_offset, index);
    rule->kernels->even_levels(values, (size_t)count, chosen.inverse_spacing, chosen.zero,
                               (float)(rule->levels - 1), codes);
    if (turn == steps) break;
    if (turn == 0) whole = chosen.inverse_spacing;
    const float finer = chosen.inverse_spacing > 0 ? whole / chosen.inverse_spacing : 0;
    const float error = squared_error(rule, &chosen, values, count, codes) * (finer * finer);
    if (turn == 0 || error < least) {
      least = error;
      best = step;
    }
  }
}

static void encode_even_rows(const even_rule *rule, const float *rows, uint8_t *codes) {
  const nibble_strip *strip = rule->strip;
  const int32_t group = strip->group_channels, channels = strip->channels;
  for (int32_t t = 0; t < strip->tokens; t++)
    for (int32_t g = 0; g * group < channels; g++) {
      const size_t start = (size_t)(t * channels + g * group);
      encode_set(rule, rows + start, group, g * strip->tokens + t, codes + start);
    }
}

static void encode_even_channels(const even_rule *rule, const float *rows, uint8_t *codes) {
  const nibble_strip *strip = rule->strip;
  const int32_t channels = strip->channels, tokens = strip->block_tokens;
  for (int32_t block = 0; block * tokens < strip->tokens; block++)
    for (int32_t d = 0; d < channels; d++) {
      const size_t start = (size_t)(block * tokens * channels + d);
      float column[NIBBLE_MAX_BLOCK_TOKENS];
      uint8_t chosen[NIBBLE_MAX_BLOCK_TOKENS];
      for (int32_t t = 0; t < tokens; t++) column[t] = rows[start + (size_t)(t * channels)];
      encode_set(rule, column, tokens, block * channels + d, chosen);
      for (int32_t t = 0; t < tokens; t++) codes[start + (size_t)(t * channels)] = chosen[t];
    }
}

// ---- Tables

static void fixed_thresholds(const nibble_strip *strip, float *thresholds) {
  float entries[NIBBLE_TABLE_ENTRIES];
  for (int32_t k = 0; k < strip->levels; k++)
    entries[k] = strip->fixed_table[k] * strip->fixed_scale;
  nibble_thresholds(entries, strip->levels, thresholds);
}

static void encode_fixed(const nibble_kernels *kernels, const nibble_strip *strip,
                         const float *rows, uint8_t *side, const encode_memory *m) {
  float thresholds[NIBBLE_TABLE_ENTRIES];
  fixed_thresholds(strip, thresholds);
  const int32_t group = strip->group_channels, channels = strip->channels;
  for (int32_t t = 0; t < strip->tokens; t++)
    for (int32_t g = 0; g * group < channels; g++) {
      const size_t start = (size_t)(t * channels + g * group);
      const float scale =
          nibble_stored_scale(side, strip->token_scale, g * strip->tokens + t,
                              nibble_root_mean_square(kernels, rows + start, group));
      kernels->nearest_entries(rows + start, (size_t)group, nibble_inverse(scale), thresholds,
                               strip->levels, m->codes + start);
    }
}

void nibble_encode_nearest(const nibble_strip *part, const float *rows, uint8_t *codes,
                           void *scratch) {
  const nibble_kernels *kernels = nibble_current_kernels();
  const encode_memory m = divide(part, scratch);
  const size_t channels = (size_t)part->channels;
  float thresholds[NIBBLE_TABLE_ENTRIES];
  if (part->kind != NIBBLE_INT8) fixed_thresholds(part, thresholds);
  for (int32_t t = 0; t < part->tokens; t++) {
    const float *row = rows + t * part->row_channels;
    uint8_t *chosen = m.codes + t * part->channels;
    if (part->kind == NIBBLE_INT8)
      kernels->even_levels(row, channels, 1 / part->fixed_scale, 128, 255, chosen);
    else
      kernels->nearest_entries(row, channels, 1, thresholds, part->levels, chosen);
  }
  sign_int8(part, m.codes);
  pack(part, &m, codes);
}

static void encode_even(const nibble_kernels *kernels, const nibble_strip *strip, const float *rows,
                        uint8_t *side, uint8_t *codes) {
  const bool by_channel = strip->channel_scale >= 0;
  const int32_t rule = strip->rule;
  const even_rule even = {
      .kernels = kernels,
      .strip = strip,
      .has_zero = rule == NIBBLE_RULE_ZERO_POINT || rule == NIBBLE_RULE_ZERO_POINT_CLIPPED,
      .is_clipped = rule >= NIBBLE_RULE_SYMMETRIC_CLIPPED,
      .levels = strip->levels,
      .side = side,
      .scale_offset = by_channel ? strip->channel_scale : strip->token_scale,
      .zero_offset = by_channel ? strip->channel_zero : strip->token_zero,
  };
  if (by_channel)
    encode_even_channels(&even, rows, codes);
  else
    encode_even_rows(&even, rows, codes);
}

// ---- The public functions

static void encode_codes(const nibble_strip *strip, const float *weights, const float *metric,
                         const float *rows, uint8_t *codes, uint8_t *side, void *scratch) {
  nibble_strip plain;
  if (nibble_is_balanced(strip)) {
    plain = *strip;
    plain.channel_scale = -1;
    strip = &plain;
  }
  if (strip->fits_scales) {
    nibble_encode_parts(strip, weights, rows, codes, side, scratch);
    return;
  }
  if (strip->rule == NIBBLE_RULE_CODEBOOKS) {
    nibble_encode_bcq(strip, rows, codes, side, scratch);
    return;
  }
  const nibble_kernels *kernels = nibble_current_kernels();
  const encode_memory m = divide(strip, scratch);
  if (strip->rule == NIBBLE_RULE_FIXED)
    encode_fixed(kernels, strip, rows, side, &m);
  else if (strip->rule == NIBBLE_RULE_FITTED)
    nibble_encode_fitted(strip, rows, side, m.codes, m.rest);
  else
    encode_even(kernels, strip, rows, side, m.codes);
  if (metric) nibble_shape_codes(strip, metric, rows, side, m.codes);
  sign_int8(strip, m.codes);
  pack(strip, &m, codes);
}

void nibble_encode(const nibble_strip *strip, const float *weights, const float *metric,
                   float *rows, uint8_t *codes, uint8_t *side, void *scratch) {
  if (strip->rule == NIBBLE_RULE_COPY) {
    nibble_write_rows(strip, codes, 0, strip->tokens, rows, (size_t)strip->channels);
    return;
  }
  float *taken = scratch;
  nibble_take_outliers(strip, rows, side, taken);
  nibble_balance(strip, rows, side);
  encode_codes(strip, weights, metric, rows, codes, side,
               (uint8_t *)scratch + outlier_scratch_bytes(strip));
  nibble_put_outliers(strip, codes, side, taken);
}
