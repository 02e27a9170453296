// Block-clustered codes: each block of values takes the codebook, of eight, that codes it with the
// least squared error (Elangovan, Sakr, Raghunathan and Khailany, "LO-BCQ", 2025). Blocks run along
// the channels of a token, as published, or along the tokens of a channel.
//
// Values are rounded to quarters of a codebook's unit, so that distances are integers from a table
// and every machine chooses alike.
#include "encode.h"

enum {
  TOP = 31,      // the largest entry
  QUARTERS = 4,  // of a unit
  MIDDLE = 128,  // of a byte that counts quarters
  POSITIONS = 256,
};

typedef struct {
  uint32_t (*squares)[NIBBLE_CODEBOOKS];  // [POSITIONS]: to the nearest entry of each codebook
  uint8_t (*nearest)[POSITIONS];          // [NIBBLE_CODEBOOKS]: that entry's code
  uint8_t *positions;                     // [block tokens][channels], quarters from MIDDLE on
  uint8_t *codes;                         // [block tokens][channels]
  uint8_t (*tiles)[NIBBLE_TILE];
  uint32_t (*sums)[NIBBLE_CODEBOOKS];  // [channels]
} bcq_memory;

static size_t values_of(const nibble_strip *strip) {
  return (size_t)strip->block_tokens * (size_t)strip->channels;
}

size_t nibble_bcq_scratch_bytes(const nibble_strip *strip) {
  return POSITIONS * NIBBLE_CODEBOOKS * (sizeof(uint32_t) + 1) + 2 * values_of(strip) +
         nibble_whole_tiles(strip->is_values, strip->block_tokens, strip->channels) * NIBBLE_TILE +
         (size_t)strip->channels * NIBBLE_CODEBOOKS * sizeof(uint32_t) + 64;
}

static bcq_memory divide(const nibble_strip *strip, void *scratch) {
  bcq_memory m;
  m.squares = scratch;
  m.sums = m.squares + POSITIONS;
  m.nearest = (void *)(m.sums + strip->channels);
  m.positions = (void *)(m.nearest + NIBBLE_CODEBOOKS);
  m.tiles = (void *)(m.positions + values_of(strip));
  m.codes = (uint8_t *)(m.tiles +
                        nibble_whole_tiles(strip->is_values, strip->block_tokens, strip->channels));
  return m;
}

// The first of two entries that are equally near. Entries ascend, so the nearest one never moves
// back as the position moves on.
static void look_up(const int8_t *table, int32_t levels, const bcq_memory *m) {
  for (int32_t book = 0; book < NIBBLE_CODEBOOKS; book++, table += NIBBLE_TABLE_ENTRIES)
    for (int32_t position = 0, code = 0; position < POSITIONS; position++) {
      const int32_t x = position - MIDDLE;
      while (code + 1 < levels && 2 * x > QUARTERS * (table[code] + table[code + 1])) code++;
      const int32_t d = x - QUARTERS * table[code];
      m->nearest[book][position] = (uint8_t)code;
      m->squares[position][book] = (uint32_t)(d * d);
    }
}

// ---- Scales

// Values that share a scale, `stride` apart, as positions.
static void place(const float *values, int32_t count, size_t stride, uint8_t *side, int32_t offset,
                  int32_t index, uint8_t *positions) {
  float top = 0;
  for (int32_t i = 0; i < count; i++) {
    const float magnitude = fabsf(values[(size_t)i * stride]);
    top = magnitude > top ? magnitude : top;
  }
  const float scale = nibble_stored_scale(side, offset, index, top / TOP),
              inverse = QUARTERS * nibble_inverse(scale);
  for (int32_t i = 0; i < count; i++) {
    float x = values[(size_t)i * stride] * inverse;
    x = x < -127 ? -127 : x > 127 ? 127 : x;
    positions[(size_t)i * stride] = (uint8_t)(MIDDLE + (int32_t)nibble_round(x));
  }
}

static void place_block(const nibble_strip *strip, int32_t block, const float *rows, uint8_t *side,
                        const bcq_memory *m) {
  const int32_t tokens = strip->block_tokens, channels = strip->channels,
                group = strip->group_channels;
  if (strip->channel_scale >= 0) {
    for (int32_t d = 0; d < channels; d++)
      place(rows + d, tokens, (size_t)channels, side, strip->channel_scale, block * channels + d,
            m->positions + d);
    return;
  }
  for (int32_t t = 0; t < tokens; t++)
    for (int32_t g = 0; g * group < channels; g++)
      place(rows + t * channels + g * group, group, 1, side, strip->token_scale,
            g * strip->tokens + block * tokens + t, m->positions + t * channels + g * group);
}

// ---- Codebooks

// The smallest sum, the first of equals.
static uint8_t least_of(const uint32_t sums[NIBBLE_CODEBOOKS]) {
  uint32_t least = UINT32_MAX;
  for (uint32_t book = 0; book < NIBBLE_CODEBOOKS; book++) {
    const uint32_t ranked = sums[book] * NIBBLE_CODEBOOKS + book;
    least = ranked < least ? ranked : least;
  }
  return least % NIBBLE_CODEBOOKS;
}

static void put_selector(uint8_t *selectors, int32_t number, uint8_t book) {
  const int32_t bit = NIBBLE_SELECTOR_BITS * number;
  const uint32_t word = (uint32_t)book << bit % 8;
  selectors[bit / 8] |= (uint8_t)word;
  if (word >> 8) selectors[bit / 8 + 1] |= (uint8_t)(word >> 8);
}

// Where the block's selectors for group `g` of the channels lie.
static uint8_t *selectors_of(const nibble_strip *strip, uint8_t *block, int32_t g) {
  const int32_t group = strip->group_channels;
  return block + g * nibble_block_bytes(strip->kind, strip->is_values, strip->block_tokens, group) +
         nibble_code_lines(strip->kind, strip->is_values, strip->block_tokens, group);
}

static void select_for(const nibble_strip *strip, uint8_t *block, int32_t t, int32_t d,
                       uint8_t book) {
  const int32_t group = strip->group_channels;
  put_selector(
      selectors_of(strip, block, d / group),
      nibble_selector_number(strip->kind, strip->is_values, strip->block_tokens, t, d % group),
      book);
}

static void choose_for_blocks(const nibble_strip *strip, uint8_t *block, const bcq_memory *m) {
  const int32_t channels = strip->channels;
  for (int32_t t = 0; t < strip->block_tokens; t++)
    for (int32_t d = 0; d < channels; d += NIBBLE_CODEBOOK_BLOCK) {
      const uint8_t *position = m->positions + t * channels + d;
      uint32_t sums[NIBBLE_CODEBOOKS] = {0};
      for (int32_t i = 0; i < NIBBLE_CODEBOOK_BLOCK; i++)
        for (int32_t book = 0; book < NIBBLE_CODEBOOKS; book++)
          sums[book] += m->squares[position[i]][book];
      const uint8_t book = least_of(sums);
      for (int32_t i = 0; i < NIBBLE_CODEBOOK_BLOCK; i++)
        m->codes[t * channels + d + i] = m->nearest[book][position[i]];
      select_for(strip, block, t, d, book);
    }
}

static void choose_for_columns(const nibble_strip *strip, uint8_t *block, const bcq_memory *m) {
  const int32_t channels = strip->channels, tokens = strip->block_tokens;
  memset(m->sums, 0, (size_t)channels * sizeof *m->sums);
  for (int32_t t = 0; t < tokens; t++)
    for (int32_t d = 0; d < channels; d++)
      for (int32_t book = 0; book < NIBBLE_CODEBOOKS; book++)
        m->sums[d][book] += m->squares[m->positions[t * channels + d]][book];
  for (int32_t d = 0; d < channels; d++) {
    const uint8_t book = least_of(m->sums[d]);
    for (int32_t t = 0; t < tokens; t++)
      m->codes[t * channels + d] = m->nearest[book][m->positions[t * channels + d]];
    select_for(strip, block, 0, d, book);
  }
}

void nibble_encode_bcq(const nibble_strip *strip, const float *rows, uint8_t *codes, uint8_t *side,
                       void *scratch) {
  const bcq_memory m = divide(strip, scratch);
  look_up(nibble_constant_table(strip->kind), strip->levels, &m);
  memset(codes, 0, (size_t)strip->code_bytes);
  for (int32_t block = 0; block * strip->block_tokens < strip->tokens; block++) {
    uint8_t *target = codes + block * nibble_strip_block_bytes(strip);
    place_block(strip, block, rows + (size_t)block * values_of(strip), side, &m);
    if (nibble_is_blocks(strip->kind))
      choose_for_blocks(strip, target, &m);
    else
      choose_for_columns(strip, target, &m);
    nibble_pack_block(strip, m.codes, m.tiles, target);
  }
}
