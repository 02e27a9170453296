// Trellis codes: rows to codes by the Viterbi algorithm, over the circular chains of a block
// (nibble_trellis_index). Tail-biting bit-shift trellises: Tseng, Sun, Hou and De Sa, "QTIP", 2024;
// Viterbi 1967.
//
// A chain has no first code, so the path must end in the state it began with. That state is taken
// from a free search over the window about the seam; a second search is held to it.
#include "encode.h"

enum {
  CHAINS_OF_BLOCK = 64,
  MAX_STATES = 128,
  MAX_PHASES = 2,  // with 4 bits the two halves of a byte have indices of their own
  MAX_LEVELS = NIBBLE_MAX_CHANNELS / 4,
  UNIT = 256,   // samples and entries, in a table unit
  MEMORY = 64,  // bits on each side of the seam that the first search sees
  UNREACHED = 0xffff,
};

typedef struct {
  int32_t bits, phases, states, tiles;
  int32_t levels;  // of weight: 1, or one for each stretch of channels that a tile covers
  int32_t tiles_of_level;
  float roots[MAX_LEVELS];  // of the weights, relative to the largest
  // By window, twice (see kernels.h), at each level's scale.
  int16_t entries[MAX_LEVELS][MAX_PHASES][NIBBLE_TRELLIS_ENTRIES][2];
} trellis;

typedef struct {
  int16_t *rounded;                              // [block tokens][channels]
  int16_t (*samples)[CHAINS_OF_BLOCK];           // [tiles]
  uint8_t (*chain_codes)[CHAINS_OF_BLOCK];       // [tiles]
  uint8_t (*from)[NIBBLE_CHAINS];                // [tiles * states]
  uint16_t (*costs)[MAX_STATES][NIBBLE_CHAINS];  // [2]
} trellis_memory;

static int32_t tiles_of(const nibble_strip *strip) {
  return nibble_block_tiles(strip->is_values, strip->block_tokens, strip->channels);
}

size_t nibble_trellis_scratch_bytes(const nibble_strip *strip) {
  const size_t tiles = (size_t)tiles_of(strip),
               states = (size_t)(NIBBLE_TRELLIS_ENTRIES >> nibble_code_bits(strip->kind));
  return nibble_whole_lines(sizeof(trellis)) +
         nibble_whole_lines((size_t)strip->block_tokens * (size_t)strip->channels * 2) +
         (tiles + 7) * CHAINS_OF_BLOCK * 3 + tiles * states * NIBBLE_CHAINS +
         2 * MAX_STATES * NIBBLE_CHAINS * sizeof(uint16_t) + 64;
}

static trellis_memory divide(const nibble_strip *strip, uint8_t *rest) {
  const size_t tiles = (size_t)tiles_of(strip), channels = (size_t)strip->channels,
               states = (size_t)(NIBBLE_TRELLIS_ENTRIES >> nibble_code_bits(strip->kind));
  trellis_memory m;
  m.costs = (void *)nibble_take(&rest, 2 * sizeof *m.costs);
  m.samples = (void *)nibble_take(&rest, tiles * sizeof *m.samples);
  m.chain_codes = (void *)nibble_take(&rest, (tiles + 7) / 8 * 8 * sizeof *m.chain_codes);
  memset(m.chain_codes, 0, (tiles + 7) / 8 * 8 * sizeof *m.chain_codes);
  m.from = (void *)nibble_take(&rest, tiles * states * sizeof *m.from);
  m.rounded = (void *)nibble_take(&rest, (size_t)strip->block_tokens * channels * 2);
  return m;
}

// ---- Tables by window

// Of a window with the current code in its lowest bits.
static uint32_t index_of_window(int32_t bits, int32_t phase, uint32_t window) {
  uint32_t index = 0;
  for (int32_t age = 0; age < nibble_window_ages(bits); age++)
    index |= nibble_window_part(bits, phase, age, window >> age * bits & ((1u << bits) - 1));
  return index;
}

// Errors of a tile count as much as its channels do on average: samples and entries are both drawn
// together by the root of that weight, and the search stays as it is.
static void weigh_tiles(trellis *t, const nibble_strip *part, const float *weights) {
  const int32_t width = part->is_values ? 16 : 4;
  t->levels = weights ? (part->channels + width - 1) / width : 1;
  t->tiles_of_level = t->tiles / t->levels;
  t->roots[0] = 1;
  if (!weights) return;
  float top = 0;
  for (int32_t level = 0; level < t->levels; level++) {
    const int32_t first = level * width,
                  count = part->channels - first < width ? part->channels - first : width;
    float sum = 0;
    for (int32_t d = first; d < first + count; d++) sum += weights[d];
    t->roots[level] = sum / (float)count;
    top = t->roots[level] > top ? t->roots[level] : top;
  }
  for (int32_t level = 0; level < t->levels; level++)
    t->roots[level] = top > 0 ? sqrtf(t->roots[level] / top) : 1;
}

static void start_trellis(trellis *t, const nibble_strip *part, const float *weights) {
  const int8_t *table = nibble_constant_table(part->kind);
  t->bits = nibble_code_bits(part->kind);
  t->phases = t->bits == 4 ? 2 : 1;
  t->states = NIBBLE_TRELLIS_ENTRIES >> t->bits;
  t->tiles = tiles_of(part);
  weigh_tiles(t, part, weights);
  for (int32_t phase = 0; phase < t->phases; phase++)
    for (uint32_t window = 0; window < NIBBLE_TRELLIS_ENTRIES; window++) {
      const float entry = (float)(table[index_of_window(t->bits, phase, window)] * UNIT);
      for (int32_t level = 0; level < t->levels; level++) {
        int16_t *both = t->entries[level][phase][window];
        both[0] = both[1] = (int16_t)(int32_t)nibble_round(entry * t->roots[level]);
      }
    }
}

// ---- The search

// One step at `tile`, from costs[turn] to costs[1 - turn].
static void step(const nibble_kernels *kernels, const trellis *t, const trellis_memory *m,
                 int32_t first_chain, int32_t tile, int32_t turn, uint8_t (*from)[NIBBLE_CHAINS]) {
  const int16_t(*entries)[2] = t->entries[tile / t->tiles_of_level][tile % t->phases];
  kernels->trellis_step(t->bits, entries, m->samples[tile] + first_chain,
                        (const uint16_t(*)[NIBBLE_CHAINS])m->costs[turn], m->costs[1 - turn], from);
}

// The windows that end a chain's path, backwards from `tile` for `count` steps. `state` becomes the
// state before them; the current code of each window goes to `codes`, unless NULL.
static void walk_back(const trellis *t, const trellis_memory *m, int32_t first_chain, int32_t tile,
                      int32_t count, uint8_t state[NIBBLE_CHAINS], bool writes) {
  const int32_t mask = (1 << t->bits) - 1, kept = 8 - t->bits;
  for (int32_t i = 0; i < count; i++, tile--) {
    const uint8_t(*from)[NIBBLE_CHAINS] =
        (const uint8_t(*)[NIBBLE_CHAINS])m->from + (size_t)tile * (size_t)t->states;
    for (int32_t chain = 0; chain < NIBBLE_CHAINS; chain++) {
      if (writes) m->chain_codes[tile][first_chain + chain] = state[chain] & mask;
      const int32_t window = from[state[chain]][chain] << kept | state[chain];
      state[chain] = (uint8_t)(window >> t->bits);
    }
  }
}

// The state at the seam of each chain, before its first tile.
static void find_seam(const nibble_kernels *kernels, const trellis *t, const trellis_memory *m,
                      int32_t first_chain, uint8_t state[NIBBLE_CHAINS]) {
  const int32_t reach = MEMORY / t->bits < t->tiles ? MEMORY / t->bits : t->tiles;
  memset(m->costs[0], 0, (size_t)t->states * sizeof m->costs[0][0]);
  int32_t turn = 0;
  for (int32_t i = 0; i < 2 * reach; i++, turn = 1 - turn) {
    const int32_t tile = i < reach ? t->tiles - reach + i : i - reach;
    step(kernels, t, m, first_chain, tile, turn, m->from + (size_t)tile * (size_t)t->states);
  }
  for (int32_t chain = 0; chain < NIBBLE_CHAINS; chain++) {
    state[chain] = 0;
    for (int32_t s = 1; s < t->states; s++)
      if (m->costs[turn][s][chain] < m->costs[turn][state[chain]][chain]) state[chain] = (uint8_t)s;
  }
  walk_back(t, m, first_chain, reach - 1, reach, state, false);
}

static void search_chains(const nibble_kernels *kernels, const trellis *t, const trellis_memory *m,
                          int32_t first_chain) {
  uint8_t state[NIBBLE_CHAINS];
  find_seam(kernels, t, m, first_chain, state);
  for (int32_t s = 0; s < t->states; s++)
    for (int32_t chain = 0; chain < NIBBLE_CHAINS; chain++)
      m->costs[0][s][chain] = state[chain] == s ? 0 : UNREACHED;
  for (int32_t tile = 0; tile < t->tiles; tile++)
    step(kernels, t, m, first_chain, tile, tile & 1, m->from + (size_t)tile * (size_t)t->states);
  walk_back(t, m, first_chain, t->tiles - 1, t->tiles, state, true);
}

// ---- Blocks

// Samples in the order of the chains; channels that only pad a tile are zeros.
static void fill_samples(const trellis *t, const nibble_strip *part, const trellis_memory *m,
                         const float *rows) {
  const int32_t channels = part->channels, width = t->levels == 1    ? channels
                                                   : part->is_values ? 16
                                                                     : 4;
  float units[NIBBLE_MAX_CHANNELS];
  for (int32_t d = 0; d < channels; d++)
    units[d] = t->roots[d / width] * (UNIT / part->fixed_scale);
  for (int32_t token = 0; token < part->block_tokens; token++, rows += part->row_channels)
    for (int32_t d = 0; d < channels; d++) {
      float x = rows[d] * units[d];
      x = x < -32767.0f ? -32767.0f : x > 32767.0f ? 32767.0f : x;
      m->rounded[token * channels + d] = (int16_t)(int32_t)nibble_round(x);
    }
  nibble_arrange_samples(part->is_values, part->block_tokens, channels, m->rounded,
                         (size_t)channels, m->samples);
}

void nibble_encode_trellis(const nibble_strip *part, const float *weights, const float *rows,
                           uint8_t *codes, void *scratch) {
  const nibble_kernels *kernels = nibble_current_kernels();
  const int32_t tokens = part->block_tokens;
  uint8_t *rest = scratch;
  trellis *t = (void *)nibble_take(&rest, sizeof *t);
  const trellis_memory m = divide(part, rest);
  start_trellis(t, part, weights);
  for (int32_t block = 0; block * tokens < part->tokens; block++) {
    fill_samples(t, part, &m, rows + block * tokens * part->row_channels);
    search_chains(kernels, t, &m, 0);
    search_chains(kernels, t, &m, NIBBLE_CHAINS);
    nibble_pack_tiles(part->kind, (const uint8_t(*)[NIBBLE_TILE])m.chain_codes, t->tiles,
                      codes + block * nibble_strip_block_bytes(part));
  }
}
