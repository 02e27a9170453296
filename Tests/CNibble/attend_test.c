// Attention over pages against loops in double precision over the rows that the pages decode to.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "testing.h"

typedef struct {
  const codec *key_codec, *value_codec;
  nibble_strip keys[NIBBLE_MAX_PARTS], values[NIBBLE_MAX_PARTS];
  nibble_run run;
  nibble_rows rows;
  const uint8_t **pages;
  int32_t all_pages;             // those behind the run included
  float *key_rows, *value_rows;  // decoded: [page_count * tokens][channels]
  float *queries, *bias;
  int64_t *positions;
} attend_case;

// ---- Making a case

static void fill_strip(const codec *codec, const nibble_strip *strip, uint8_t *codes, uint8_t *side,
                       float *decoded) {
  const size_t count = (size_t)strip->tokens * (size_t)strip->row_channels;
  float *rows = exact_memory(count * sizeof *rows);
  void *scratch = exact_memory(nibble_encode_scratch_bytes(strip));
  random_normals(rows, count, 0.3f);
  nibble_encode(strip, strip_weights(codec), NULL, rows, codes, side, scratch);
  nibble_decode(strip, codes, side, 0, strip->tokens, decoded);
  free(rows);
  free(scratch);
}

// `next_count` pages behind the run are only fetched.
static void make_pages(attend_case *c, int32_t page_count, int32_t next_count) {
  nibble_run *run = &c->run;
  const size_t values = (size_t)c->keys->tokens * (size_t)c->keys->row_channels;
  const size_t page_bytes = (size_t)(strip_code_bytes(c->keys) + strip_code_bytes(c->values) +
                                     c->keys->side_bytes + c->values->side_bytes);
  run->keys = c->keys;
  run->values = c->values;
  run->value_codes = (size_t)strip_code_bytes(c->keys);
  run->key_side = run->value_codes + (size_t)strip_code_bytes(c->values);
  run->value_side = run->key_side + (size_t)c->keys->side_bytes;
  c->all_pages = page_count + next_count;
  run->page_count = page_count;
  run->next_count = next_count;
  run->last_page_tokens = 1 + random_below(c->keys->tokens);
  run->first_position = random_below(3) * 37;
  c->pages = exact_memory(((size_t)c->all_pages + 1) * sizeof *c->pages);
  c->key_rows = exact_memory((values * (size_t)c->all_pages + 1) * sizeof(float));
  c->value_rows = exact_memory((values * (size_t)c->all_pages + 1) * sizeof(float));
  for (int32_t page = 0; page < c->all_pages; page++) {
    uint8_t *bytes = exact_memory(page_bytes);
    fill_strip(c->key_codec, c->keys, bytes + run->key_codes, bytes + run->key_side,
               c->key_rows + (size_t)page * values);
    fill_strip(c->value_codec, c->values, bytes + run->value_codes, bytes + run->value_side,
               c->value_rows + (size_t)page * values);
    c->pages[page] = bytes;
  }
  run->pages = c->pages;
  if (next_count == 0 && page_count > 0) {
    run->following = c->pages[0];
    run->following_bytes = (int32_t)page_bytes;
  }
}

static int32_t present_tokens(const nibble_run *run) {
  return run->page_count == 0 ? 0
                              : (run->page_count - 1) * run->keys->tokens + run->last_page_tokens;
}

static void make_rows(attend_case *c, int32_t count) {
  nibble_rows *rows = &c->rows;
  rows->count = count;
  const size_t values = (size_t)rows->count * (size_t)c->keys->row_channels;
  c->queries = exact_memory(values * sizeof *c->queries);
  c->bias = exact_memory((size_t)rows->count * sizeof *c->bias);
  c->positions = exact_memory((size_t)rows->count * sizeof *c->positions);
  random_normals(c->queries, values, 0);
  random_normals(c->bias, (size_t)rows->count, 0);
  // Some rows come before the run, some after it.
  const int32_t reach = present_tokens(&c->run) + (int32_t)c->run.first_position + 20;
  for (int32_t row = 0; row < rows->count; row++) c->positions[row] = random_below(reach);
  rows->queries = c->queries;
  rows->positions = c->positions;
  rows->bias = random_below(2) ? c->bias : NULL;
  rows->window = random_below(2) ? 1 + random_below(100) : 0;
  rows->soft_cap = random_below(3) == 0 ? 4 : 0;
  rows->scale = 1 / sqrtf((float)c->keys->row_channels);
}

static bool make_case(attend_case *c, const codec *keys, const codec *values) {
  static const int32_t counts[] = {1, 1, 2, 3, 8, 9, 16, 17, 40, 64};
  static const int32_t page_lengths[] = {16, 32, 48, 64, 64, 64, 128};
  static const int32_t dimensions[] = {8, 24, 48, 64, 64, 80, 128, 128, 136, 256};
  const int32_t tokens = page_lengths[random_below(7)], channels = dimensions[random_below(10)];
  *c = (attend_case){.key_codec = keys, .value_codec = values};
  if (!make_strip(keys, false, tokens, channels, c->keys)) return false;
  if (!make_strip(values, true, tokens, channels, c->values)) return false;
  make_pages(c, random_below(4), random_below(NIBBLE_NEXT_PAGES + 1));
  make_rows(c, counts[random_below(10)]);
  return true;
}

static void free_pages(attend_case *c) {
  for (int32_t page = 0; page < c->all_pages; page++) free((void *)(uintptr_t)c->pages[page]);
  free((void *)c->pages);
  free(c->key_rows);
  free(c->value_rows);
}

static void free_rows(attend_case *c) {
  free(c->queries);
  free(c->bias);
  free(c->positions);
}

static void free_case(attend_case *c) {
  free_pages(c);
  free_rows(c);
}

// ---- The truth

static double score_of(const attend_case *c, int32_t row, int32_t token) {
  const int32_t channels = c->keys->row_channels;
  const float *query = c->queries + (size_t)row * (size_t)channels;
  const float *key = c->key_rows + (size_t)token * (size_t)channels;
  double dot = c->rows.bias ? (double)c->bias[row] : 0;
  for (int32_t d = 0; d < channels; d++) dot += (double)query[d] * (double)key[d];
  const double score = dot * (double)c->rows.scale, cap = (double)c->rows.soft_cap;
  return cap > 0 ? cap * tanh(score / cap) : score;
}

// One row's attention, divided by its sum; false if the row sees nothing.
static bool attend_in_double(const attend_case *c, int32_t row, float *output) {
  const int32_t channels = c->keys->row_channels, tokens = present_tokens(&c->run);
  const int64_t position = c->positions[row];
  double sum = 0, accumulator[NIBBLE_MAX_CHANNELS] = {0};
  for (int32_t t = 0; t < tokens; t++) {
    const int64_t key = c->run.first_position + t;
    if (key > position || (c->rows.window > 0 && key <= position - c->rows.window)) continue;
    const double weight = exp(score_of(c, row, t));  // scores are small here
    sum += weight;
    for (int32_t d = 0; d < channels; d++)
      accumulator[d] += weight * (double)c->value_rows[(size_t)t * (size_t)channels + (size_t)d];
  }
  for (int32_t d = 0; d < channels; d++) output[d] = sum > 0 ? (float)(accumulator[d] / sum) : 0;
  return sum > 0;
}

// ---- The comparison

typedef struct {
  nibble_partial partial;
  size_t row_bytes, bytes;
} result;

static result attend(const attend_case *c, const char *isa) {
  const size_t rows = (size_t)c->rows.count,
               padded = (size_t)nibble_padded_channels(c->keys->row_channels);
  result r = {.row_bytes = rows * sizeof(float), .bytes = rows * padded * sizeof(float)};
  r.partial.maximum = exact_memory(r.row_bytes);
  r.partial.sum = exact_memory(r.row_bytes);
  r.partial.accumulator = exact_memory(r.bytes);
  void *scratch = exact_memory(nibble_attend_scratch_bytes());
  memset(scratch, 0x7f, nibble_attend_scratch_bytes());  // nothing is expected of it
  nibble_select_isa(isa);
  nibble_attend(&c->run, &c->rows, &r.partial, scratch);
  free(scratch);
  return r;
}

static void free_result(result *r) {
  free(r->partial.maximum);
  free(r->partial.sum);
  free(r->partial.accumulator);
}

static bool equal_results(const result *a, const result *b) {
  return memcmp(a->partial.maximum, b->partial.maximum, a->row_bytes) == 0 &&
         memcmp(a->partial.sum, b->partial.sum, a->row_bytes) == 0 &&
         memcmp(a->partial.accumulator, b->partial.accumulator, a->bytes) == 0;
}

// [rows][channels], divided by the sums.
static float *outputs(const attend_case *c, const result *r) {
  const int32_t channels = c->keys->row_channels, padded = nibble_padded_channels(channels);
  float *output = exact_memory((size_t)(c->rows.count * channels) * sizeof *output);
  for (int32_t row = 0; row < c->rows.count; row++)
    for (int32_t d = 0; d < channels; d++)
      if (r->partial.sum[row] > 0)
        output[row * channels + d] = r->partial.accumulator[row * padded + d] / r->partial.sum[row];
  return output;
}

static void compare_case(const attend_case *c) {
  const bool exact_keys = nibble_is_rows(c->keys->kind),
             exact_values = nibble_is_rows(c->values->kind);
  const size_t count = (size_t)c->rows.count * (size_t)c->keys->row_channels;
  float *truth = exact_memory(count * sizeof *truth);
  result scalar = attend(c, "scalar");
  for (int32_t row = 0; row < c->rows.count; row++) {
    const bool sees = attend_in_double(c, row, truth + (size_t)row * (size_t)c->keys->row_channels);
    CHECK(sees == (scalar.partial.sum[row] > 0) &&
              sees == (scalar.partial.maximum[row] > -INFINITY),
          "%s: row %d sees something: %d, but sum %g, maximum %g", c->key_codec->name, row, sees,
          (double)scalar.partial.sum[row], (double)scalar.partial.maximum[row]);
  }
  float *plain = outputs(c, &scalar);
  for (const char *const *isa = nibble_available_isas(); *isa; isa++) {
    result r = attend(c, *isa);
    float *output = outputs(c, &r);
    const double error = relative_error(output, truth, count);
    CHECK(error < (exact_keys && exact_values ? 1e-5 : 2e-2),
          "%s: keys %s, values %s, %d pages of %d tokens, %d channels, %d rows: error %g", *isa,
          c->key_codec->name, c->value_codec->name, c->run.page_count, c->keys->tokens,
          c->keys->row_channels, c->rows.count, error);
    // With exact keys a score may differ in its last bit, and with it the rounding of a weight.
    if (!exact_keys && !exact_values)
      CHECK(equal_results(&r, &scalar), "%s: keys %s, values %s, %d channels: not scalar's floats",
            *isa, c->key_codec->name, c->value_codec->name, c->keys->row_channels);
    else
      CHECK(relative_error(output, plain, count) < (exact_values ? 1e-5 : 2e-3),
            "%s: keys %s, values %s: far from scalar", *isa, c->key_codec->name,
            c->value_codec->name);
    free(output);
    free_result(&r);
  }
  free(plain);
  free(truth);
  free_result(&scalar);
}

// One row that sees a stretch but for its first or its last token, or just all of it, beside rows
// of the last position.
static void test_visible_edges(const codec *codec) {
  static const int32_t counts[] = {1, 2, 17};
  static const int64_t positions[] = {62, 63, 64, 126, 127}, oldest[] = {-1, 0, 1, 63, 64, 65};
  attend_case c = {.key_codec = codec, .value_codec = codec};
  if (!make_strip(codec, false, 64, 64, c.keys) || !make_strip(codec, true, 64, 64, c.values))
    return;
  make_pages(&c, 2, 0);
  c.run.last_page_tokens = 64;
  c.run.first_position = 0;
  for (int32_t i = 0; i < 3; i++) {
    make_rows(&c, counts[i]);
    c.rows.bias = NULL;
    c.rows.soft_cap = 0;
    for (int32_t p = 0; p < 5; p++)
      for (int32_t o = 0; o < 6; o++) {
        if (oldest[o] > positions[p]) continue;
        for (int32_t row = 0; row < counts[i]; row++) c.positions[row] = 127;
        c.positions[counts[i] - 1] = positions[p];
        c.rows.window = oldest[o] < 0 ? 0 : positions[p] - oldest[o] + 1;
        compare_case(&c);
      }
    free_rows(&c);
  }
  free_pages(&c);
}

void test_attention(void) {
  random_seed(5);
  for (int32_t i = 0; i < codec_count; i++)
    if (codecs[i].kind == NIBBLE_FLOAT32) test_visible_edges(&codecs[i]);
  random_seed(4);
  attend_case c;
  for (int32_t round = 0; round < 8; round++)
    for (int32_t keys = 0; keys < codec_count; keys++) {
      // The same codec on both sides, then any other.
      const int32_t values = round % 2 ? random_below(codec_count) : keys;
      if (!is_sampled() || !make_case(&c, &codecs[keys], &codecs[values])) continue;
      compare_case(&c);
      free_case(&c);
    }
}
