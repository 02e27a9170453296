// Strips whose tokens have one scale that is fitted to their codes, over all parts of the strip.
#include "encode.h"

typedef struct {
  float *scaled;   // [tokens][row channels], of unit scale
  float *chosen;   // [block tokens][row channels]: what the codes stand for, at unit scale
  float *counted;  // [row channels]: one row of `chosen`, by weight
  float *roots;    // [row channels]: of the weights
  uint8_t (*tiles)[NIBBLE_TILE];
  uint8_t *rest;
} parts_memory;

static size_t scaled_bytes(const nibble_strip *strip) {
  return (size_t)strip->tokens * (size_t)strip->row_channels * sizeof(float);
}

static size_t chosen_bytes(const nibble_strip *strip) {
  return (size_t)(strip->block_tokens + 2) * (size_t)strip->row_channels * sizeof(float);
}

static size_t tile_bytes(const nibble_strip *strip) {
  return nibble_whole_tiles(strip->is_values, strip->block_tokens, strip->row_channels) *
         NIBBLE_TILE;
}

size_t nibble_parts_scratch_bytes(const nibble_strip *strip) {
  return nibble_whole_lines(scaled_bytes(strip)) + nibble_whole_lines(chosen_bytes(strip)) +
         tile_bytes(strip);
}

static parts_memory divide(const nibble_strip *strip, uint8_t *rest) {
  parts_memory m;
  m.scaled = (void *)nibble_take(&rest, scaled_bytes(strip));
  m.chosen = (void *)nibble_take(&rest, chosen_bytes(strip));
  m.counted = m.chosen + strip->block_tokens * strip->row_channels;
  m.roots = m.counted + strip->row_channels;
  m.tiles = (void *)nibble_take(&rest, tile_bytes(strip));
  m.rest = rest;
  return m;
}

// Tokens at unit scale, as the stored scale has it.
static void scale_rows(const nibble_kernels *kernels, const nibble_strip *strip, const float *rows,
                       uint8_t *side, const parts_memory *m) {
  const int32_t channels = strip->row_channels;
  for (int32_t t = 0; t < strip->tokens; t++) {
    const float *row = rows + t * channels;
    float *scaled = m->scaled + t * channels;
    const float scale = nibble_stored_scale(side, strip->token_scale, t,
                                            nibble_root_mean_square(kernels, row, channels));
    for (int32_t d = 0; d < channels; d++) scaled[d] = row[d] * nibble_inverse(scale);
  }
}

static void encode_part(const nibble_strip *part, const float *weights, const parts_memory *m,
                        uint8_t *codes) {
  const float *rows = m->scaled + part->first_channel;
  if (part->rule == NIBBLE_RULE_TRELLIS)
    nibble_encode_trellis(part, weights ? weights + part->first_channel : NULL, rows,
                          codes + part->code_offset, m->rest);
  else
    nibble_encode_nearest(part, rows, codes + part->code_offset, m->rest);
}

// What a block's codes stand for, before their tokens' scales.
static void choose_block(const nibble_kernels *kernels, const nibble_strip *part, int32_t block,
                         const uint8_t *codes, const parts_memory *m) {
  const int8_t *table = nibble_constant_table(part->kind);
  codes += part->code_offset + block * nibble_strip_block_bytes(part);
  const int8_t(*tiles)[NIBBLE_TILE] = (const void *)codes;
  if (part->kind != NIBBLE_INT8) {
    kernels->expand[part->kind](codes, table ? table : part->fixed_table, part->is_values,
                                part->block_tokens, part->channels, (int8_t *)m->tiles);
    tiles = (const void *)m->tiles;
  }
  nibble_rows_of_tiles(part->is_values, part->block_tokens, part->channels, tiles,
                       part->fixed_scale, m->chosen + part->first_channel, part->row_channels);
}

// The scales that fit the codes best, in the sense of least squares. Channels count by the roots of
// their weights: by the weights themselves few would decide, and misjudge the token.
static void fit_block(const nibble_kernels *kernels, const nibble_strip *strip, bool is_weighted,
                      int32_t block, uint8_t *side, const parts_memory *m) {
  const int32_t channels = strip->row_channels;
  for (int32_t t = 0; t < strip->block_tokens; t++) {
    const int32_t token = block * strip->block_tokens + t;
    const float *scaled = m->scaled + token * channels, *chosen = m->chosen + t * channels,
                *counted = chosen;
    if (is_weighted) {
      for (int32_t d = 0; d < channels; d++) m->counted[d] = chosen[d] * m->roots[d];
      counted = m->counted;
    }
    const float along = kernels->dot_floats(scaled, counted, (size_t)channels),
                square = kernels->dot_floats(chosen, counted, (size_t)channels);
    if (along <= 0 || square <= 0) continue;
    const float old = nibble_from_bfloat16(*nibble_side_at(side, strip->token_scale, token));
    nibble_stored_scale(side, strip->token_scale, token, old * (along / square));
  }
}

void nibble_encode_parts(const nibble_strip *strip, const float *weights, const float *rows,
                         uint8_t *codes, uint8_t *side, void *scratch) {
  const nibble_kernels *kernels = nibble_current_kernels();
  const parts_memory m = divide(strip, scratch);
  scale_rows(kernels, strip, rows, side, &m);
  for (int32_t i = 0; i < strip->parts; i++) encode_part(strip + i, weights, &m, codes);
  memset(m.chosen, 0, chosen_bytes(strip));
  for (int32_t d = 0; weights && d < strip->row_channels; d++) m.roots[d] = sqrtf(weights[d]);
  for (int32_t block = 0; block * strip->block_tokens < strip->tokens; block++) {
    for (int32_t i = 0; i < strip->parts; i++) choose_block(kernels, strip + i, block, codes, &m);
    fit_block(kernels, strip, weights != NULL, block, side, &m);
  }
}
