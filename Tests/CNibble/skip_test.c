// What attention leaves out: the same on every instruction set, and as little as was asked for.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "testing.h"

enum { PAGES = 6, ROWS = 18 };

typedef struct {
  nibble_strip keys[NIBBLE_MAX_PARTS], values[NIBBLE_MAX_PARTS];
  nibble_run run;
  nibble_rows rows;
  const uint8_t *pages[PAGES];
  ptrdiff_t summary;
  float *queries, *largest;  // of values: the largest norm of a row
  int64_t positions[ROWS];
} skip_case;

// Keys of page 1 lie where queries look, all others far from there.
static void fill_page(const codec *codec, skip_case *c, int32_t page, uint8_t *bytes) {
  const int32_t channels = c->keys->row_channels, tokens = c->keys->tokens;
  const size_t count = (size_t)(tokens * channels);
  const nibble_run *run = &c->run;
  float *rows = exact_memory(count * sizeof *rows);
  void *scratch =
      exact_memory(nibble_encode_scratch_bytes(c->keys) + nibble_encode_scratch_bytes(c->values));
  random_normals(rows, count, 0);
  for (size_t i = 0; i < count; i++)
    rows[i] = 0.2f * rows[i] + (page == 1 ? 1 : -3) * (i % (size_t)channels % 3 ? 1.0f : -1.0f);
  nibble_encode(c->keys, strip_weights(codec), NULL, rows, bytes + run->key_codes,
                bytes + run->key_side, scratch);
  nibble_decode(c->keys, bytes + run->key_codes, bytes + run->key_side, 0, tokens, rows);
  nibble_summarize(rows, tokens, channels, bytes + c->summary);
  random_normals(rows, count, 0);
  nibble_encode(c->values, strip_weights(codec), NULL, rows, bytes + run->value_codes,
                bytes + run->value_side, scratch);
  nibble_decode(c->values, bytes + run->value_codes, bytes + run->value_side, 0, tokens, rows);
  for (int32_t t = 0; t < tokens; t++) {
    float square = 0;
    for (int32_t d = 0; d < channels; d++)
      square += rows[t * channels + d] * rows[t * channels + d];
    *c->largest = fmaxf(*c->largest, sqrtf(square));
  }
  free(rows);
  free(scratch);
}

static bool make_case(skip_case *c, const codec *codec, int32_t channels, int32_t rows) {
  *c = (skip_case){.summary = -1};
  if (!make_strip(codec, false, 64, channels, c->keys)) return false;
  if (!make_strip(codec, true, 64, channels, c->values)) return false;
  nibble_run *run = &c->run;
  run->keys = c->keys;
  run->values = c->values;
  run->value_codes = strip_code_bytes(c->keys);
  run->key_side = run->value_codes + strip_code_bytes(c->values);
  run->value_side = run->key_side + (size_t)c->keys->side_bytes;
  run->pages = c->pages;
  run->page_count = PAGES;
  run->last_page_tokens = 64;
  c->summary = (ptrdiff_t)(run->value_side + (size_t)c->values->side_bytes);
  c->largest = exact_memory(sizeof *c->largest);
  for (int32_t page = 0; page < PAGES; page++) {
    uint8_t *bytes = exact_memory((size_t)c->summary + nibble_summary_bytes(channels));
    fill_page(codec, c, page, bytes);
    c->pages[page] = bytes;
  }
  c->queries = exact_memory((size_t)(rows * channels) * sizeof(float));
  for (int32_t i = 0; i < rows * channels; i++)
    c->queries[i] = (i % channels % 3 ? 2.0f : -2.0f) + 0.1f * random_normal();
  for (int32_t row = 0; row < rows; row++) c->positions[row] = 64 * PAGES - rows + row;
  c->rows = (nibble_rows){.count = rows,
                          .queries = c->queries,
                          .positions = c->positions,
                          .scale = 1 / sqrtf((float)channels)};
  return true;
}

static void free_case(skip_case *c) {
  for (int32_t page = 0; page < PAGES; page++) free((void *)(uintptr_t)c->pages[page]);
  free(c->queries);
  free(c->largest);
}

// Output rows [rows][padded channels], divided by their sums.
static void attend(const skip_case *c, const char *isa, nibble_skip *skip, float *output) {
  const int32_t count = c->rows.count, padded = nibble_padded_channels(c->keys->row_channels);
  float maximum[ROWS], sum[ROWS], known[ROWS];
  for (int32_t row = 0; row < count; row++) known[row] = -INFINITY;
  nibble_rows rows = c->rows;
  rows.skip = skip;
  if (skip) skip->known = known;
  const nibble_partial partial = {.maximum = maximum, .sum = sum, .accumulator = output};
  void *scratch = exact_memory(nibble_attend_scratch_bytes());
  memset(scratch, 0x7f, nibble_attend_scratch_bytes());
  nibble_select_isa(isa);
  nibble_attend(&c->run, &rows, &partial, scratch);
  free(scratch);
  for (int32_t row = 0; row < count; row++)
    for (int32_t d = 0; d < padded; d++) output[row * padded + d] /= sum[row];
}

static void compare_case(const skip_case *c, const char *name) {
  const int32_t padded = nibble_padded_channels(c->keys->row_channels), count = c->rows.count;
  const float share = 0.01f;
  const size_t bytes = (size_t)(count * padded) * sizeof(float);
  float *plain = exact_memory(bytes), *scalar = exact_memory(bytes), *output = exact_memory(bytes);
  attend(c, "scalar", NULL, plain);
  for (const char *const *isa = nibble_available_isas(); *isa; isa++) {
    nibble_skip skip = {.share = share / 2 / (64 * PAGES), .summary = c->summary};
    attend(c, "scalar", &skip, scalar);
    // What comes before the page that queries look for cannot be known to be less.
    CHECK(skip.attended_pages == 2 && skip.skipped_pages == PAGES - 2,
          "%s: %d pages attended to, %d left out", name, (int)skip.attended_pages,
          (int)skip.skipped_pages);
    attend(c, *isa, &skip, output);
    CHECK(memcmp(output, scalar, bytes) == 0, "%s: %s does not equal scalar", name, *isa);
    for (int32_t row = 0; row < count; row++) {
      float square = 0;
      for (int32_t d = 0; d < padded; d++) {
        const float x = output[row * padded + d] - plain[row * padded + d];
        square += x * x;
      }
      CHECK(sqrtf(square) <= 2 * share * *c->largest, "%s: row %d is off by %g", name, row,
            (double)sqrtf(square));
    }
  }
  free(plain);
  free(scalar);
  free(output);
}

void test_skipping(void) {
  random_seed(5);
  skip_case c;
  for (int32_t i = 0; i < codec_count; i++)
    for (int32_t channels = 48; channels <= 136; channels += 88) {
      if (nibble_is_rows((int32_t)codecs[i].kind) || !is_sampled()) continue;
      if (!make_case(&c, &codecs[i], channels, random_below(2) ? 3 : ROWS)) continue;
      compare_case(&c, codecs[i].name);
      free_case(&c);
    }
}
