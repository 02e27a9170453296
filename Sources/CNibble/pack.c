// Codes in the order of tiles to packing units (layout.h).
#include "encode.h"

// Units of whole bytes: `bits` of each of 8 / bits tiles.
static void pack_units(int32_t bits, const uint8_t (*tiles)[NIBBLE_TILE], int32_t count,
                       uint8_t *codes) {
  const int32_t places = 8 / bits;
  for (int32_t tile = 0; tile < count; tile += places, codes += NIBBLE_TILE)
    for (int32_t i = 0; i < NIBBLE_TILE; i++) {
      uint8_t byte = 0;
      for (int32_t place = 0; place < places; place++)
        byte |= (uint8_t)(tiles[tile + place][i] << place * bits);
      codes[i] = byte;
    }
}

// Two lines of lower bits, one of upper bits.
static void pack_units_of_3(const uint8_t (*tiles)[NIBBLE_TILE], int32_t count, uint8_t *codes) {
  for (int32_t tile = 0; tile < count; tile += 8, codes += 3 * NIBBLE_TILE)
    for (int32_t i = 0; i < NIBBLE_TILE; i++) {
      uint8_t low[2] = {0, 0}, high = 0;
      for (int32_t place = 0; place < 8; place++) {
        const uint8_t code = tiles[tile + place][i];
        low[place / 4] |= (uint8_t)((code & 3) << place % 4 * 2);
        high |= (uint8_t)(code >> 2 << place);
      }
      codes[i] = low[0];
      codes[NIBBLE_TILE + i] = low[1];
      codes[2 * NIBBLE_TILE + i] = high;
    }
}

void nibble_pack_tiles(int32_t kind, const uint8_t (*tiles)[NIBBLE_TILE], int32_t count,
                       uint8_t *codes) {
  // Constants, so that loops over places unroll.
  switch (nibble_code_bits(kind)) {
  case 8: pack_units(8, tiles, count, codes); break;
  case 4: pack_units(4, tiles, count, codes); break;
  case 3: pack_units_of_3(tiles, count, codes); break;
  case 2: pack_units(2, tiles, count, codes); break;
  default: pack_units(1, tiles, count, codes); break;
  }
}

void nibble_pack_block(const nibble_strip *strip, const uint8_t *codes,
                       uint8_t (*tiles)[NIBBLE_TILE], uint8_t *block) {
  const int32_t group = strip->group_channels, tokens = strip->block_tokens;
  const int32_t bytes = nibble_block_bytes(strip->kind, strip->is_values, tokens, group),
                count = nibble_block_tiles(strip->is_values, tokens, group);
  const size_t whole = nibble_whole_tiles(strip->is_values, tokens, group);
  memset(tiles + count, 0, (whole - (size_t)count) * sizeof *tiles);
  for (int32_t first = 0; first < strip->channels; first += group, block += bytes) {
    nibble_arrange_bytes(strip->is_values, tokens, group, codes + first, (size_t)strip->channels,
                         tiles);
    nibble_pack_tiles(strip->kind, (const uint8_t(*)[NIBBLE_TILE])tiles, count, block);
  }
}
