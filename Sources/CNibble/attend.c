// The attention skeleton: pages in, partial softmax results out. It knows no codec: codes come
// through the kernels' expand step, and scales and zero points are folded into the query, the
// scores, the weights and the output.
//
// The softmax runs online over blocks of at most 64 tokens (Milakov and Gimelshein 2018; Dao et al.
// 2022).
#include <math.h>
#include <string.h>

#include "feed.h"
#include "float_parts.h"
#include "skip.h"
#include "view.h"

enum {
  EXPAND_ROWS = 8,  // from here on a block is expanded once for all rows
  MAX_GROUPS = NIBBLE_MAX_CHANNELS / 16,
};

// The positions that some row of a call sees, and those that all of them see.
typedef struct {
  int64_t first, last;
  int64_t common_first, common_last;
} visible_range;

typedef struct {
  // Queries as integers; a chunk's low halves follow its high halves.
  int8_t query[2 * NIBBLE_MAX_ROWS][NIBBLE_MAX_CHANNELS];
  nibble_query_terms query_terms[MAX_GROUPS][NIBBLE_MAX_ROWS];
  float scaled_query[NIBBLE_MAX_CHANNELS];
  int8_t keys[NIBBLE_MAX_BLOCK_TOKENS * NIBBLE_MAX_CHANNELS];
  int8_t values[NIBBLE_MAX_BLOCK_TOKENS * NIBBLE_MAX_CHANNELS];
  int32_t raw_scores[2 * NIBBLE_CHUNK_ROWS][NIBBLE_MAX_BLOCK_TOKENS];
  float scores[NIBBLE_CHUNK_ROWS][NIBBLE_MAX_BLOCK_TOKENS];
  nibble_weight_start weight_start;
  uint8_t weights[2 * NIBBLE_CHUNK_ROWS][NIBBLE_MAX_BLOCK_TOKENS];
  int32_t raw_values[2 * NIBBLE_CHUNK_ROWS * NIBBLE_MAX_CHANNELS];
  nibble_query_norms query_norms[NIBBLE_MAX_ROWS];
  visible_range visible;
  nibble_feed feed;
} scratch_memory;

size_t nibble_attend_scratch_bytes(void) { return (sizeof(scratch_memory) + 63) & ~(size_t)63; }

// Where what is kept for each group of channels lies, over all parts: groups are at least 16
// channels.
static int32_t group_slot(const nibble_strip *strip, int32_t g) {
  return (strip->first_channel + g * strip->group_channels) / 16;
}

// Many rows: expand once and go on with signed bytes.
static void expand_block(const nibble_kernels *kernels, nibble_block_view *view, int8_t *expanded) {
  const nibble_strip *strip = view->strip;
  if (view->kind == NIBBLE_INT8) return;
  if (kernels->prefers_codes &&
      kernels->prefers_codes(view->kind, strip->is_values, strip->block_tokens, view->table))
    return;
  const int32_t group = strip->group_channels, tokens = strip->block_tokens,
                group_bytes = nibble_block_bytes(NIBBLE_INT8, strip->is_values, tokens, group);
  for (int32_t g = 0; g * group < strip->channels; g++)
    kernels->expand[view->kind](nibble_group_codes(view, g), view->table, strip->is_values, tokens,
                                group, expanded + g * group_bytes);
  view->codes = (const uint8_t *)expanded;
  view->kind = NIBBLE_INT8;
  view->group_bytes = group_bytes;
}

// ---- Queries

static int32_t chunk_of(const nibble_rows *rows, int32_t first) {
  return rows->count - first < NIBBLE_CHUNK_ROWS ? rows->count - first : NIBBLE_CHUNK_ROWS;
}

// Row `i` of the chunk at `first` in the stacked arrays: its high half, or (`low`) its low half.
static int32_t stacked(int32_t first, int32_t i, int32_t count, bool low) {
  return 2 * first + (low ? count : 0) + i;
}

static void quantize_chunk(const nibble_kernels *kernels, const nibble_rows *rows, int32_t first,
                           const nibble_block_view *keys, scratch_memory *s) {
  const nibble_strip *strip = keys->strip;
  const int32_t channels = strip->channels, group = strip->group_channels,
                start = strip->first_channel, count = chunk_of(rows, first);
  const bool halves = nibble_wants_halves(strip);
  for (int32_t i = 0; i < count; i++) {
    const float *query = rows->queries + (size_t)((first + i) * strip->row_channels + start);
    if (keys->channel_scale) {
      for (int32_t d = 0; d < channels; d++)
        s->scaled_query[d] = query[d] * nibble_from_bfloat16(keys->channel_scale[d]);
      query = s->scaled_query;
    }
    const int32_t high = stacked(first, i, count, false), low = stacked(first, i, count, true);
    const int8_t *high_bytes = s->query[high] + start, *low_bytes = s->query[low] + start;
    float scale;
    kernels->quantize_query(query, channels, halves, s->query[high] + start, s->query[low] + start,
                            &scale);
    for (int32_t g = 0; g * group < channels; g++) {
      int32_t sum = 0, sum_low = 0;
      for (int32_t d = g * group; d < (g + 1) * group; d++) sum += high_bytes[d];
      if (halves)
        for (int32_t d = g * group; d < (g + 1) * group; d++) sum_low += low_bytes[d];
      float minus = 0;
      if (keys->channel_zero)
        for (int32_t d = g * group; d < (g + 1) * group; d++) {
          const float q =
              halves ? 256.0f * (float)high_bytes[d] + (float)low_bytes[d] : (float)high_bytes[d];
          minus += q * nibble_from_float16(keys->channel_zero[d]);
        }
      s->query_terms[group_slot(strip, g)][first + i] =
          (nibble_query_terms){(float)sum, (float)sum_low, scale, minus};
    }
  }
}

// ---- Scores

static void score_chunk(const nibble_kernels *kernels, const nibble_rows *rows, int32_t first,
                        const nibble_block_view *keys, scratch_memory *s) {
  const nibble_strip *strip = keys->strip;
  const int32_t tokens = strip->block_tokens, channels = strip->channels,
                count = chunk_of(rows, first);
  if (nibble_is_rows(keys->kind)) {
    kernels->dot_rows[keys->kind](keys->codes, tokens, channels,
                                  rows->queries + (size_t)first * (size_t)channels,
                                  (size_t)channels, count, s->scores[0] + keys->token, &s->feed);
    return;
  }
  const bool halves = nibble_wants_halves(strip);
  const int32_t group = strip->group_channels;
  if (keys->channel_scale) quantize_chunk(kernels, rows, first, keys, s);
  for (int32_t g = 0; g * group < channels; g++) {
    const int32_t slot = group_slot(strip, g);
    kernels->dot[keys->kind](
        nibble_group_codes(keys, g), keys->table, tokens, group,
        s->query[stacked(first, 0, count, false)] + strip->first_channel + g * group,
        NIBBLE_MAX_CHANNELS, halves ? 2 * count : count, s->raw_scores[0], &s->feed);
    const nibble_score_finish finish = {
        .rows = count,
        .tokens = tokens,
        .raw = s->raw_scores[0],
        .raw_low = halves ? s->raw_scores[count] : NULL,
        .terms = s->query_terms[slot] + first,
        .table_scale = keys->table_scale,
        .token_scale = keys->token_scale ? keys->token_scale + g * strip->tokens : NULL,
        .token_zero = keys->token_zero ? keys->token_zero + g * strip->tokens : NULL,
        .zero = keys->table_zero,
        .scores = s->scores[0] + keys->token,
        .accumulate = slot > 0,
    };
    kernels->finish_scores(&finish, &s->feed);
  }
}

// What the codes leave of the largest keys. Queries and scores are floats here.
static void score_outliers(const nibble_rows *rows, int32_t first, const nibble_block_view *keys,
                           scratch_memory *s) {
  if (!keys->outlier_index) return;
  const int32_t channels = keys->strip->channels, count = chunk_of(rows, first);
  const float *queries = rows->queries + (size_t)first * (size_t)channels;
  for (int32_t i = 0; i < keys->strip->outlier_count; i++) {
    const int32_t t = keys->outlier_index[i] / channels, d = keys->outlier_index[i] % channels;
    if (t >= keys->strip->block_tokens) continue;  // a page from a file may say anything
    const float value = nibble_from_bfloat16(keys->outlier_value[i]);
    for (int32_t row = 0; row < count; row++)
      s->scores[row][keys->token + t] += queries[row * channels + d] * value;
  }
}

static visible_range visible(const nibble_rows *rows) {
  visible_range range = {.first = INT64_MAX, .last = -1, .common_last = INT64_MAX};
  for (int32_t row = 0; row < rows->count; row++) {
    const int64_t position = rows->positions[row];
    const int64_t first = rows->window > 0 ? position - rows->window + 1 : 0;
    if (first < range.first) range.first = first;
    if (position > range.last) range.last = position;
    if (first > range.common_first) range.common_first = first;
    if (position < range.common_last) range.common_last = position;
  }
  return range;
}

// Hides what a row may not see.
static void mask_row(const nibble_rows *rows, int32_t row, int64_t first_position, int32_t present,
                     int32_t tokens, float *scores) {
  const int64_t position = rows->positions[row];
  int64_t low = rows->window > 0 ? position - rows->window + 1 - first_position : 0;
  int64_t high = position + 1 - first_position;
  low = low < 0 ? 0 : low > tokens ? tokens : low;
  high = high > present ? present : high < low ? low : high;
  for (int32_t t = 0; t < (int32_t)low; t++) scores[t] = -INFINITY;
  for (int32_t t = (int32_t)high; t < tokens; t++) scores[t] = -INFINITY;
}

// `present` of the `tokens` tokens are there.
static void mask_chunk(const nibble_rows *rows, int32_t first, int64_t first_position,
                       int32_t present, int32_t tokens, scratch_memory *s) {
  if (present >= tokens && s->visible.common_first <= first_position &&
      first_position + tokens - 1 <= s->visible.common_last)
    return;
  for (int32_t i = 0; i < chunk_of(rows, first); i++)
    mask_row(rows, first + i, first_position, present, tokens, s->scores[i]);
}

static void soften_chunk(const nibble_kernels *kernels, const nibble_rows *rows, int32_t first,
                         const nibble_partial *partial, int64_t first_position, int32_t present,
                         int32_t tokens, int32_t padded, scratch_memory *s) {
  const int32_t count = chunk_of(rows, first);
  const float *bias = rows->bias ? rows->bias + first : NULL;
  float scale = rows->scale, factor[NIBBLE_CHUNK_ROWS];
  if (rows->soft_cap > 0) {
    for (int32_t i = 0; i < count; i++)
      for (int32_t t = 0; t < tokens; t++) {
        const float score = (s->scores[i][t] + (bias ? bias[i] : 0)) * scale;
        s->scores[i][t] = rows->soft_cap * tanhf(score / rows->soft_cap);
      }
    bias = NULL;
    scale = 1;
  }
  mask_chunk(rows, first, first_position, present, tokens, s);
  kernels->softmax(s->scores[0], tokens, count, bias, scale, partial->maximum + first,
                   partial->sum + first, factor, &s->feed);
  for (int32_t i = 0; i < count; i++) {
    if (factor[i] == 1) continue;
    float *accumulator = partial->accumulator + (size_t)(first + i) * (size_t)padded;
    kernels->combine(accumulator, factor[i], accumulator, 0, (size_t)padded);
  }
}

// ---- Values

// Softmax weights times the scales of group `g`, as integers.
static void start_weights(const nibble_kernels *kernels, const nibble_block_view *values, int32_t g,
                          int32_t count, scratch_memory *s) {
  const nibble_strip *strip = values->strip;
  nibble_weight_start *start = &s->weight_start;
  start->rows = count;
  start->tokens = strip->block_tokens;
  start->weights = s->scores[0] + values->token;
  start->token_scale = values->token_scale ? values->token_scale + g * strip->tokens : NULL;
  start->token_zero = values->token_zero ? values->token_zero + g * strip->tokens : NULL;
  start->zero = values->table_zero;
  start->high = s->weights[0];
  start->low = nibble_wants_halves(strip) ? s->weights[count] : NULL;
  // Strips in parts, which share this, have no zero points.
  start->wants_sum =
      values->channel_zero != NULL || (values->table_zero != 0 && !values->token_zero);
  kernels->start_weights(start, &s->feed);
}

static void weigh_chunk(const nibble_kernels *kernels, const nibble_rows *rows, int32_t first,
                        const nibble_partial *partial, const nibble_block_view *values,
                        scratch_memory *s) {
  const nibble_strip *strip = values->strip;
  const int32_t tokens = strip->block_tokens, channels = strip->channels,
                count = chunk_of(rows, first);
  const int32_t padded = nibble_padded_channels(strip->row_channels);
  float *accumulators = partial->accumulator + (size_t)(first * padded + strip->first_channel);
  if (nibble_is_rows(values->kind)) {
    kernels->weigh_rows[values->kind](values->codes, tokens, padded, s->scores[0] + values->token,
                                      count, accumulators, &s->feed);
    return;
  }
  const bool halves = nibble_wants_halves(strip);
  const int32_t group = strip->group_channels;
  for (int32_t g = 0; g * group < channels; g++) {
    // Parts share a token's scale, and so the weights that it is folded into.
    if (values->part == 0 || nibble_wants_halves(strip - 1) != halves)
      start_weights(kernels, values, g, count, s);
    const int32_t width = nibble_padded_channels(group);
    kernels->weigh[values->kind](nibble_group_codes(values, g), values->table, tokens, width,
                                 s->weights[0], halves ? 2 * count : count, s->raw_values,
                                 &s->feed);
    const nibble_value_finish finish = {
        .rows = count,
        .channels = group,
        .raw = s->raw_values,
        .raw_low = halves ? s->raw_values + (size_t)count * (size_t)width : NULL,
        .weights = &s->weight_start,
        .table_scale = values->table_scale,
        .channel_scale = values->channel_scale ? values->channel_scale + g * group : NULL,
        .channel_zero = values->channel_zero ? values->channel_zero + g * group : NULL,
        .accumulators = accumulators + g * group,
        .raw_stride = (size_t)width,
        .stride = (size_t)padded,
    };
    kernels->finish_values(&finish, &s->feed);
  }
}

// What the codes leave of the largest values.
static void weigh_outliers(const nibble_rows *rows, int32_t first, const nibble_partial *partial,
                           const nibble_block_view *values, const scratch_memory *s) {
  if (!values->outlier_index) return;
  const int32_t channels = values->strip->channels, padded = nibble_padded_channels(channels);
  const int32_t count = chunk_of(rows, first);
  float *accumulators = partial->accumulator + (size_t)first * (size_t)padded;
  for (int32_t i = 0; i < values->strip->outlier_count; i++) {
    const int32_t t = values->outlier_index[i] / channels, d = values->outlier_index[i] % channels;
    if (t >= values->strip->block_tokens) continue;  // a page from a file may say anything
    const float value = nibble_from_bfloat16(values->outlier_value[i]);
    for (int32_t row = 0; row < count; row++)
      accumulators[row * padded + d] += s->scores[row][values->token + t] * value;
  }
}

// ---- Pages

static void expand_stretch(const nibble_kernels *kernels, nibble_stretch_view *view,
                           int8_t *expanded) {
  for (int32_t i = 0; i < view->count; i++) {
    nibble_block_view *block = &view->blocks[i];
    if (nibble_is_rows(block->kind)) return;
    expand_block(kernels, block,
                 expanded + (size_t)block->token * NIBBLE_MAX_CHANNELS +
                     block->strip->first_channel * block->strip->block_tokens);
  }
}

static void attend_stretch(const nibble_kernels *kernels, const nibble_rows *rows,
                           const nibble_partial *partial, nibble_stretch_view *keys,
                           nibble_stretch_view *values, int64_t first_position, int32_t present,
                           scratch_memory *s) {
  if (rows->count > EXPAND_ROWS) {
    expand_stretch(kernels, keys, s->keys);
    expand_stretch(kernels, values, s->values);
  }
  const nibble_strip *strip = keys->blocks[0].strip;
  const int32_t tokens = nibble_stretch_tokens(strip),
                padded = nibble_padded_channels(strip->row_channels);
  for (int32_t first = 0; first < rows->count; first += NIBBLE_CHUNK_ROWS) {
    for (int32_t i = 0; i < keys->count; i++) {
      score_chunk(kernels, rows, first, &keys->blocks[i], s);
      score_outliers(rows, first, &keys->blocks[i], s);
    }
    soften_chunk(kernels, rows, first, partial, first_position, present, tokens, padded, s);
    if (rows->skip && !nibble_is_rows(values->blocks[0].strip->kind) &&
        nibble_skips_values(rows, partial, first, chunk_of(rows, first), s->scores[0], tokens))
      continue;
    for (int32_t i = 0; i < values->count; i++) {
      weigh_chunk(kernels, rows, first, partial, &values->blocks[i], s);
      weigh_outliers(rows, first, partial, &values->blocks[i], s);
    }
  }
}

// Queries as the codes of all pages take them. With scales by channel each page has its own.
static void quantize_queries(const nibble_kernels *kernels, const nibble_rows *rows,
                             const nibble_stretch_view *keys, scratch_memory *s) {
  for (int32_t part = 0; part < keys->blocks[0].strip->parts; part++) {
    const nibble_block_view *block = &keys->blocks[part];
    if (nibble_is_rows(block->kind) || block->channel_scale) continue;
    for (int32_t first = 0; first < rows->count; first += NIBBLE_CHUNK_ROWS)
      quantize_chunk(kernels, rows, first, block, s);
  }
}

void nibble_attend(const nibble_run *run, const nibble_rows *rows, const nibble_partial *partial,
                   void *scratch) {
  const nibble_kernels *kernels = nibble_current_kernels();
  scratch_memory *s = scratch;
  const int32_t padded = nibble_padded_channels(run->keys->row_channels),
                tokens = nibble_stretch_tokens(run->keys);
  if (!run->resumes) {
    for (int32_t row = 0; row < rows->count; row++) {
      partial->maximum[row] = -INFINITY;
      partial->sum[row] = 0;
    }
    memset(partial->accumulator, 0, (size_t)rows->count * (size_t)padded * sizeof(float));
  }
  s->visible = visible(rows);
  s->feed = nibble_start_feed(run, rows);
  bool is_fetched = false, is_quantized = false;
  nibble_stretch_view keys, values;
  nibble_view_strip(&keys, run->keys);
  nibble_view_strip(&values, run->values);
  if (rows->skip) nibble_start_skipping(rows, run->keys->row_channels, s->query_norms);
  for (int32_t page = 0; page < run->page_count; page++) {
    const int32_t known = run->page_count + run->next_count;
    const uint8_t *bytes = run->pages[page],
                  *next = page + 1 < known ? run->pages[page + 1] : bytes,
                  *after = page + 2 < known ? run->pages[page + 2] : next;
    const bool is_last = page + 1 == run->page_count;
    const int32_t present = is_last ? run->last_page_tokens : run->keys->tokens;
    const int64_t position = run->first_position + (int64_t)page * run->keys->tokens;
    if (position + present <= s->visible.first) continue;
    if (position > s->visible.last) break;
    if (!is_fetched && !rows->skip) nibble_fetch_first(run, bytes);
    is_fetched = true;
    if (next != bytes)
      nibble_feed_page(&s->feed, run, next, after);
    else if (run->following)
      nibble_feed_following(&s->feed, run);
    if (rows->skip && nibble_skips_page(rows, partial, run->keys->row_channels, s->query_norms,
                                        bytes, next, position, present))
      continue;
    for (int32_t stretch = 0; stretch * tokens < present; stretch++) {
      nibble_view_stretch(&keys, bytes + run->key_codes, bytes + run->key_side, stretch);
      nibble_view_stretch(&values, bytes + run->value_codes, bytes + run->value_side, stretch);
      if (!is_quantized) quantize_queries(kernels, rows, &keys, s);
      is_quantized = true;
      const int32_t left = present - stretch * tokens;
      attend_stretch(kernels, rows, partial, &keys, &values, position + stretch * tokens,
                     left < tokens ? left : tokens, s);
    }
  }
}

void nibble_combine(float *result, float a, const float *source, float b, size_t n) {
  nibble_current_kernels()->combine(result, a, source, b, n);
}

float nibble_dot(const float *a, const float *b, size_t n) {
  return nibble_current_kernels()->dot_floats(a, b, n);
}
