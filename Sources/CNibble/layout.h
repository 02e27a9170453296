// Where a code lies in a block. Specs/page-layout.md has the same in words.
//
// A block of keys is a sequence of tiles of 16 tokens x 4 channels; a block of values one of 16
// channels x 4 tokens. In both, the 16 are the 32-bit lanes of a register and the 4 are the bytes
// of a lane, which one integer dot product sums. Tiles are packed into units of whole 64-byte
// lines.
#ifndef NIBBLE_LAYOUT_H
#define NIBBLE_LAYOUT_H

#include "CNibble.h"

// No multiplication is contracted with an addition: but for exact rows, every instruction set
// computes the same floats.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

// Bits of a float16 or bfloat16 as a float. Portable, so that every instruction set has the same
// values.
static inline float nibble_from_bfloat16(uint16_t bits) {
  union {
    uint32_t u;
    float f;
  } x = {.u = (uint32_t)bits << 16};
  return x.f;
}

static inline uint16_t nibble_to_bfloat16(float value) {
  union {
    float f;
    uint32_t u;
  } x = {.f = value};
  return (uint16_t)((x.u + 0x7fff + ((x.u >> 16) & 1)) >> 16);
}

static inline float nibble_from_float16(uint16_t bits) {
  // Shift exponent and mantissa into place and let one multiplication correct the bias, subnormals
  // included.
  union {
    uint32_t u;
    float f;
  } x = {.u = (uint32_t)(bits & 0x7fff) << 13}, sign = {.u = (uint32_t)(bits & 0x8000) << 16};
  const union {
    uint32_t u;
    float f;
  } bias = {.u = 0x77800000};  // 2^112
  x.f *= bias.f;
  x.u = (bits & 0x7c00) == 0x7c00 ? x.u | 0x7f800000 : x.u;
  x.u |= sign.u;
  return x.f;
}

static inline uint16_t nibble_to_float16(float value) {
  union {
    float f;
    uint32_t u;
  } x = {.f = value};
  const uint32_t sign = (x.u >> 16) & 0x8000;
  const uint32_t magnitude = x.u & 0x7fffffff;
  if (magnitude >= 0x47800000) return (uint16_t)(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  if (magnitude < 0x38800000) {  // subnormal: round to a multiple of 2^-24
    union {
      uint32_t u;
      float f;
    } y = {.u = magnitude}, half = {.u = 0x3f000000};  // 0.5 has an ulp of 2^-24
    y.f += half.f;
    return (uint16_t)(sign | (y.u - half.u));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return (uint16_t)(sign | ((rounded - 0x38000000) >> 13));
}

static inline bool nibble_is_trellis(int32_t kind) {
  return kind >= NIBBLE_TRELLIS4 && kind <= NIBBLE_TRELLIS1;
}

// A codebook for each block of a token's channels.
static inline bool nibble_is_blocks(int32_t kind) {
  return kind >= NIBBLE_BLOCKS4 && kind <= NIBBLE_BLOCKS2;
}

// Codes with selectors of codebooks behind them.
static inline bool nibble_has_selectors(int32_t kind) { return kind >= NIBBLE_BLOCKS4; }

// Bits of one code.
static inline int32_t nibble_code_bits(int32_t kind) {
  switch (kind) {
  case NIBBLE_CODES4:
  case NIBBLE_TRELLIS4:
  case NIBBLE_BLOCKS4:
  case NIBBLE_COLUMNS4: return 4;
  case NIBBLE_CODES3:
  case NIBBLE_TRELLIS3:
  case NIBBLE_BLOCKS3:
  case NIBBLE_COLUMNS3: return 3;
  case NIBBLE_CODES2:
  case NIBBLE_TRELLIS2:
  case NIBBLE_BLOCKS2:
  case NIBBLE_COLUMNS2: return 2;
  case NIBBLE_TRELLIS1: return 1;
  default: return 8;
  }
}

// Tiles of one packing unit, and its bytes.
static inline int32_t nibble_unit_tiles(int32_t kind) {
  const int32_t bits = nibble_code_bits(kind);
  return bits == 3 ? 8 : 8 / bits;
}

static inline int32_t nibble_unit_bytes(int32_t kind) {
  return nibble_code_bits(kind) == 3 ? 192 : 64;
}

static inline int32_t nibble_element_bytes(int32_t kind) { return kind == NIBBLE_FLOAT32 ? 4 : 2; }

static inline bool nibble_is_rows(int32_t kind) { return kind <= NIBBLE_BFLOAT16; }

static inline int32_t nibble_block_tiles(bool is_values, int32_t block_tokens, int32_t channels) {
  return is_values ? nibble_padded_channels(channels) / 16 * (block_tokens / 4)
                   : block_tokens / 16 * (channels / 4);
}

// Bytes of the codes alone: a block's, or a group's of its channels.
static inline int32_t nibble_code_lines(int32_t kind, bool is_values, int32_t block_tokens,
                                        int32_t channels) {
  const int32_t unit = nibble_unit_tiles(kind);
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels);
  return (tiles + unit - 1) / unit * nibble_unit_bytes(kind);
}

enum { NIBBLE_SELECTOR_BITS = 3 };

static inline int32_t nibble_selectors(int32_t kind, bool is_values, int32_t block_tokens,
                                       int32_t channels) {
  const int32_t width = is_values ? nibble_padded_channels(channels) : channels;
  return nibble_is_blocks(kind) ? width / NIBBLE_CODEBOOK_BLOCK * block_tokens : width;
}

// Bytes of a block, or of one group of its channels: codes, and selectors in whole lines.
static inline int32_t nibble_block_bytes(int32_t kind, bool is_values, int32_t block_tokens,
                                         int32_t channels) {
  if (nibble_is_rows(kind)) {
    const int32_t width = is_values ? nibble_padded_channels(channels) : channels;
    return (width * block_tokens * nibble_element_bytes(kind) + 63) & ~63;
  }
  const int32_t codes = nibble_code_lines(kind, is_values, block_tokens, channels);
  if (!nibble_has_selectors(kind)) return codes;
  const int32_t bits =
      NIBBLE_SELECTOR_BITS * nibble_selectors(kind, is_values, block_tokens, channels);
  return codes + (bits + 511) / 512 * 64;
}

// Bytes of all groups of one block.
static inline int32_t nibble_strip_block_bytes(const nibble_strip *strip) {
  const int32_t group = strip->group_channels;
  return strip->channels / group *
         nibble_block_bytes(strip->kind, strip->is_values, strip->block_tokens, group);
}

static inline int32_t nibble_tile_of_key(int32_t t, int32_t d, int32_t block_tokens) {
  return d / 4 * (block_tokens / 16) + t / 16;
}

static inline int32_t nibble_tile_of_value(int32_t t, int32_t d, int32_t block_tokens) {
  return d / 16 * (block_tokens / 4) + t / 4;
}

// Byte (0 ..< 64) of an element in its tile.
static inline int32_t nibble_byte_of_key(int32_t t, int32_t d) { return t % 16 * 4 + d % 4; }

static inline int32_t nibble_byte_of_value(int32_t t, int32_t d) { return d % 16 * 4 + t % 4; }

// The code at byte `byte` of tile `tile`.
static inline uint8_t nibble_get_code(int32_t kind, const uint8_t *codes, int32_t tile,
                                      int32_t byte) {
  switch (nibble_code_bits(kind)) {
  case 4: return codes[tile / 2 * 64 + byte] >> (tile % 2 * 4) & 15;
  case 2: return codes[tile / 4 * 64 + byte] >> (tile % 4 * 2) & 3;
  case 1: return codes[tile / 8 * 64 + byte] >> (tile % 8) & 1;
  case 3: {
    const uint8_t *unit = codes + tile / 8 * 192;
    const int32_t k = tile % 8;
    return (unit[k / 4 * 64 + byte] >> (k % 4 * 2) & 3) | ((unit[128 + byte] >> k & 1) << 2);
  }
  default: return codes[tile * 64 + byte];
  }
}

// A trellis: all codes at one byte of a block's tiles, in the order of the tiles, are one circular
// chain, and an entry is found by a window of eight bits that ends with the current code. In the
// index, the codes stand as their line packs them, older ones round the byte. With 4 bits that is
// all: the index is one or two packed bytes without a shift. With fewer bits the byte is turned so
// that the current code is the highest. With 3 bits the line is that of the lower two bits of three
// codes; the place that is left has the high bits of the current code (above) and the one before
// (below).
static inline int32_t nibble_window_ages(int32_t bits) { return bits == 3 ? 3 : 8 / bits; }

// The bits of an index that a code `age` tiles before `tile` fills.
static inline uint32_t nibble_window_part(int32_t bits, int32_t tile, int32_t age, uint32_t code) {
  const int32_t width = bits == 3 ? 2 : bits, places = 8 / width;
  const int32_t place = bits == 4 ? tile % places : places - 1;
  uint32_t part = (code & ((1u << width) - 1)) << (place + places - age) % places * width;
  if (bits == 3 && age < 2) part |= (code >> 2 & 1) << ((place + 1) % places * width + 1 - age);
  return part;
}

// With 4 and 3 bits the table of a trellis is odd: table[mirror of index] = -table[index], where
// mirrors differ in the highest bit. Half of the table is then enough.
static inline bool nibble_is_odd(int32_t kind) {
  return kind == NIBBLE_TRELLIS4 || kind == NIBBLE_TRELLIS3;
}

enum { NIBBLE_MIRROR3 = 0xb7 };  // the bits that two mirrors differ in

// With 4 bits mirrors are each other's negatives, as far as the lower seven bits go.
static inline uint8_t nibble_trellis_mirror(int32_t kind, uint8_t index) {
  if (kind == NIBBLE_TRELLIS3) return index ^ NIBBLE_MIRROR3;
  return (uint8_t)((-index & 0x7f) | (~index & 0x80));
}

static inline uint8_t nibble_trellis_index(int32_t kind, const uint8_t *codes, int32_t tiles,
                                           int32_t tile, int32_t byte) {
  const int32_t bits = nibble_code_bits(kind);
  uint32_t index = 0;
  for (int32_t age = 0; age < nibble_window_ages(bits); age++) {
    const int32_t at = ((tile - age) % tiles + tiles) % tiles;
    index |= nibble_window_part(bits, tile, age, nibble_get_code(kind, codes, at, byte));
  }
  return (uint8_t)index;
}

// The number of an element's selector. Blocks are numbered so that those of a tile's lanes are
// neighbours.
static inline int32_t nibble_selector_number(int32_t kind, bool is_values, int32_t block_tokens,
                                             int32_t t, int32_t d) {
  if (!nibble_is_blocks(kind)) return d;
  return is_values ? d / 16 * 2 * block_tokens + t / 4 * 8 + d / 8 % 2 * 4 + t % 4
                   : d / 8 * block_tokens + t;
}

// Selector `number` of a little-endian stream of bits.
static inline uint8_t nibble_get_selector(const uint8_t *selectors, int32_t number) {
  const int32_t bit = NIBBLE_SELECTOR_BITS * number, byte = bit / 8, shift = bit % 8;
  uint32_t word = selectors[byte];
  if (shift > 8 - NIBBLE_SELECTOR_BITS) word |= (uint32_t)selectors[byte + 1] << 8;
  return word >> shift & (NIBBLE_CODEBOOKS - 1);
}

// The index into the table of an element of a block, or of a group of its channels.
static inline uint8_t nibble_index_at(int32_t kind, bool is_values, const uint8_t *codes,
                                      int32_t block_tokens, int32_t channels, int32_t t,
                                      int32_t d) {
  const int32_t tile = is_values ? nibble_tile_of_value(t, d, block_tokens)
                                 : nibble_tile_of_key(t, d, block_tokens),
                byte = is_values ? nibble_byte_of_value(t, d) : nibble_byte_of_key(t, d);
  if (nibble_is_trellis(kind))
    return nibble_trellis_index(kind, codes, nibble_block_tiles(is_values, block_tokens, channels),
                                tile, byte);
  const uint8_t code = nibble_get_code(kind, codes, tile, byte);
  if (!nibble_has_selectors(kind)) return code;
  const uint8_t *selectors = codes + nibble_code_lines(kind, is_values, block_tokens, channels);
  const int32_t number = nibble_selector_number(kind, is_values, block_tokens, t, d);
  return (uint8_t)(nibble_get_selector(selectors, number) * NIBBLE_TABLE_ENTRIES + code);
}

// Index of an element of an exact strip's block.
static inline size_t nibble_row_index(bool is_values, int32_t t, int32_t d, int32_t block_tokens,
                                      int32_t channels) {
  return is_values ? (size_t)t * nibble_padded_channels(channels) + d
                   : (size_t)d * block_tokens + t;
}

#endif
