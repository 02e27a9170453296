// From packed codes to tiles of signed bytes, for avx512.c, which says what TARGET is.

// Eight tiles are one step of every kernel: a whole number of packing units for each kind.
enum { STEP = 8 };

TARGET_INLINE int32_t step_lines(int32_t kind) { return nibble_code_bits(kind); }

// The table, for trellis kinds the lines before the next step, and for codebooks the step's
// selectors.
typedef struct {
  __m512i table[4];    // see repeated_table; large_tables for codebooks and trellises
  __m512i line;        // the last line of codes; with 3 bits of their lower bits
  __m512i high;        // with 3 bits the last upper bits, as the lowest of each byte
  __mmask64 is_upper;  // with 4 bits the highest bits of `line`
  const uint8_t *selectors;
} expander;

// Registers that a table of more than sixteen entries takes.
TARGET_INLINE int large_tables(int32_t kind) {
  return nibble_is_trellis(kind) && !nibble_is_odd(kind) ? 4 : 2;
}

// The entries of 2, 3 or 4 bits' codes over and over, so that the upper bits of an index do not
// count.
TARGET_INLINE __m512i repeated_table(int32_t kind, const int8_t *table) {
  const int bits = nibble_code_bits(kind);
  const __m128i x = _mm_loadu_si128((const __m128i *)table);
  return _mm512_broadcast_i32x4(bits == 4   ? x
                                : bits == 3 ? _mm_unpacklo_epi64(x, x)
                                            : _mm_shuffle_epi32(x, 0));
}

// For int8, `table` is what to flip so that codes become unsigned (keys).
TARGET_INLINE expander load_table(int32_t kind, const int8_t *table, bool is_unsigned) {
  const __m512i flip = _mm512_set1_epi8(is_unsigned ? (char)0x80 : 0);
  expander e;
  if (kind == NIBBLE_INT8) {
    e.table[0] = flip;
  } else if (nibble_is_trellis(kind) || nibble_has_selectors(kind)) {
    for (int i = 0; i < large_tables(kind); i++)
      e.table[i] = _mm512_xor_si512(_mm512_loadu_si512(table + i * 64), flip);
  } else {
    e.table[0] = _mm512_xor_si512(repeated_table(kind, table), flip);
  }
  return e;
}

// The highest bit of every byte, as its lowest.
TARGET_INLINE __m512i last_bits(__m512i x) {
  return _mm512_and_si512(_mm512_srli_epi16(x, 7), _mm512_set1_epi8(1));
}

// Begins a chain behind the step that ends at `end`.
TARGET_INLINE void begin_after(int32_t kind, const uint8_t *end, expander *e) {
  if (kind == NIBBLE_TRELLIS3) {
    e->line = _mm512_loadu_si512(end - 128);
    e->high = last_bits(_mm512_loadu_si512(end - 64));
  } else if (nibble_is_trellis(kind)) {
    e->line = _mm512_loadu_si512(end - 64);
    if (kind == NIBBLE_TRELLIS4) e->is_upper = _mm512_movepi8_mask(e->line);
  }
}

// Bits of `a` where `mask` is set, of `b` elsewhere.
TARGET_INLINE __m512i choose(int mask, __m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8((char)mask), a, b, 0xca);
}

// Every byte times a matrix over the field of two elements. Row i, its byte 7 - i, has the input
// bits that make up output bit i.
TARGET_INLINE __m512i multiply(__m512i x, uint64_t matrix) {
  return _mm512_gf2p8affine_epi64_epi8(x, _mm512_set1_epi64((int64_t)matrix), 0);
}

// Turns the bits of every byte to the left.
TARGET_INLINE __m512i turn(__m512i x, int left) {
  uint64_t matrix = 0;
  NIBBLE_UNROLLED
  for (int bit = 0; bit < 8; bit++) matrix |= (uint64_t)1 << ((bit - left) & 7) << 8 * (7 - bit);
  return multiply(x, matrix);
}

// The lower seven bits of those indices that are in the upper half: of their mirrors.
TARGET_INLINE __m512i fold(int32_t kind, __m512i index) {
  if (kind == NIBBLE_TRELLIS4) return _mm512_abs_epi8(index);
  uint64_t matrix = 0;
  NIBBLE_UNROLLED
  for (int bit = 0; bit < 7; bit++)
    matrix |= (uint64_t)(1 << bit | (NIBBLE_MIRROR3 >> bit & 1) << 7) << 8 * (7 - bit);
  return multiply(index, matrix);
}

// `is_upper`: the highest bits of the indices.
TARGET_INLINE __m512i look_up(int32_t kind, __m512i index, __mmask64 is_upper, const expander *e) {
  if (nibble_is_odd(kind)) {
    const __m512i found = _mm512_permutex2var_epi8(e->table[0], fold(kind, index), e->table[1]);
    return _mm512_mask_sub_epi8(found, is_upper, _mm512_setzero_si512(), found);
  }
  const __m512i lower = _mm512_permutex2var_epi8(e->table[0], index, e->table[1]),
                upper = _mm512_permutex2var_epi8(e->table[2], index, e->table[3]);
  return _mm512_mask_mov_epi8(lower, is_upper, upper);
}

TARGET_INLINE void expand_trellis_step(int32_t kind, const uint8_t *codes, expander *e,
                                       __m512i tiles[STEP]) {
  const int bits = nibble_code_bits(kind), width = bits == 3 ? 2 : bits, places = 8 / width;
  const __m512i high = bits == 3 ? _mm512_loadu_si512(codes + 128) : _mm512_setzero_si512();
  NIBBLE_UNROLLED
  for (int i = 0; i < STEP; i++) {
    const int place = i % places;
    const bool is_last = place == places - 1;
    const __m512i line = _mm512_loadu_si512(codes + i / places * 64);
    __m512i index = is_last ? line : choose((1 << (place + 1) * width) - 1, line, e->line);
    if (bits < 4 && !is_last) index = turn(index, (places - 1 - place) * width);
    // The upper bits of the current code and of the one before it.
    if (bits == 3) {
      const __m512i tops = i == 0 ? choose(1, e->high, _mm512_slli_epi16(high, 1))
                                  : _mm512_srli_epi16(high, (unsigned)i - 1);
      index = choose(3, tops, index);
    }
    // With 4 bits the first code of a line has its highest bit from the line before.
    const __mmask64 is_upper = bits == 4 && !is_last ? e->is_upper : _mm512_movepi8_mask(index);
    tiles[i] = look_up(kind, index, is_upper, e);
    if (is_last) {
      e->line = line;
      e->is_upper = is_upper;
    }
  }
  if (bits == 3) e->high = last_bits(high);
}

// ---- Codebooks

// Begins at a tile that begins a step: of keys (`blocks` = tokens / 16) or of values (`blocks` =
// 0).
TARGET_INLINE void begin_selectors(int32_t kind, int32_t blocks, const uint8_t *codes,
                                   int32_t block_tokens, int32_t channels, int32_t tile,
                                   expander *e) {
  if (!nibble_has_selectors(kind)) return;
  const int32_t bits = nibble_is_blocks(kind) ? 24
                       : blocks               ? 12
                                              : 48,
                tiles = nibble_is_blocks(kind) ? 1
                        : blocks               ? blocks
                                               : block_tokens / 4;
  e->selectors = codes + nibble_code_lines(kind, blocks == 0, block_tokens, channels) +
                 tile / tiles * bits / 8;
}

// Bits before a byte's selector where there is one for each lane (tokens of keys by blocks,
// channels of values by columns), for each byte of a lane (channels of keys by columns), or for
// each byte of either half of the lanes (tokens of values by blocks).
static const uint8_t bits_by_lane[64] = {
    0,  0,  0,  0,  3,  3,  3,  3,  6,  6,  6,  6,  9,  9,  9,  9,  12, 12, 12, 12, 15, 15,
    15, 15, 18, 18, 18, 18, 21, 21, 21, 21, 24, 24, 24, 24, 27, 27, 27, 27, 30, 30, 30, 30,
    33, 33, 33, 33, 36, 36, 36, 36, 39, 39, 39, 39, 42, 42, 42, 42, 45, 45, 45, 45};
static const uint8_t bits_by_byte[64] = {
    0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9,
    0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9, 0, 3, 6, 9};
static const uint8_t bits_by_half[64] = {
    0,  3,  6,  9,  0,  3,  6,  9,  0,  3,  6,  9,  0,  3,  6,  9,  0,  3,  6,  9,  0,  3,
    6,  9,  0,  3,  6,  9,  0,  3,  6,  9,  12, 15, 18, 21, 12, 15, 18, 21, 12, 15, 18, 21,
    12, 15, 18, 21, 12, 15, 18, 21, 12, 15, 18, 21, 12, 15, 18, 21, 12, 15, 18, 21};

// Selectors in bits 4 to 6 of each byte. `first` is the first one's bit in the 64 that end at
// `end`: loads begin before the selectors, so that none passes the end of a strip.
TARGET_INLINE __m512i place_selectors(const uint8_t bits[64], int first, const uint8_t *end) {
  int64_t word;
  memcpy(&word, end - sizeof word, sizeof word);
  const __m512i from =
      _mm512_add_epi8(_mm512_loadu_si512(bits), _mm512_set1_epi8((char)(first - 4)));
  return _mm512_multishift_epi64_epi8(from, _mm512_set1_epi64(word));
}

// Those of tile i of a step.
TARGET_INLINE __m512i selectors_of(int32_t kind, int32_t blocks, const expander *e, int i) {
  const uint8_t *start = e->selectors;
  if (blocks == 0)
    return nibble_is_blocks(kind)
               ? place_selectors(bits_by_half, 16 + i % 2 * 24, start + i / 2 * 6 + 6)
               : place_selectors(bits_by_lane, 16, start + 6);
  const int quad = i / blocks;
  return nibble_is_blocks(kind)
             ? place_selectors(bits_by_lane, 16, start + (quad / 2 * blocks + i % blocks) * 6 + 6)
             : place_selectors(bits_by_byte, 40 + quad % 2 * 12, start + quad / 2 * 3 + 3);
}

// The entries of tile i, whose codes are the bits of `mask` in every byte of x.
TARGET_INLINE __m512i entries_of(int32_t kind, int32_t blocks, __m512i x, int mask,
                                 const expander *e, int i) {
  if (!nibble_has_selectors(kind)) return _mm512_permutexvar_epi8(x, e->table[0]);
  const __m512i masks = _mm512_set1_epi8((char)mask);
  // The highest bit of an index does not count.
  const __m512i selectors = selectors_of(kind, blocks, e, i),
                index = mask == 15
                            ? choose(mask, x, selectors)
                            : _mm512_ternarylogic_epi32(
                                  masks, x, _mm512_and_si512(selectors, _mm512_set1_epi8(0x70)),
                                  0xea);  // masks & x | selectors
  return _mm512_permutex2var_epi8(e->table[0], index, e->table[1]);
}

// Eight tiles of keys (`blocks` = tokens / 16) or of values (`blocks` = 0).
TARGET_INLINE void expand_step(int32_t kind, int32_t blocks, const uint8_t *codes, expander *e,
                               nibble_feed *feed, __m512i tiles[STEP]) {
  nibble_fetch(feed, step_lines(kind));
  if (nibble_is_trellis(kind)) {
    expand_trellis_step(kind, codes, e, tiles);
    return;
  }
  const int bits = nibble_code_bits(kind);
  if (kind == NIBBLE_INT8) {
    for (int i = 0; i < STEP; i++) {
      tiles[i] = _mm512_loadu_si512(codes + i * 64);
      if (blocks > 0) tiles[i] = _mm512_xor_si512(tiles[i], e->table[0]);
    }
  } else if (bits == 3) {
    const __m512i tops = _mm512_loadu_si512(codes + 128);
    for (int i = 0; i < STEP; i++) {
      const __m512i x =
          _mm512_srli_epi16(_mm512_loadu_si512(codes + i / 4 * 64), (unsigned)(i % 4 * 2));
      const __m512i h = i < 2 ? _mm512_slli_epi16(tops, (unsigned)(2 - i))
                              : _mm512_srli_epi16(tops, (unsigned)(i - 2));
      tiles[i] = entries_of(kind, blocks, choose(3, x, h), 7, e, i);
    }
  } else {
    for (int i = 0; i < STEP; i++) {
      const int places = 8 / bits;
      const __m512i line = _mm512_loadu_si512(codes + i / places * 64);
      tiles[i] = entries_of(kind, blocks, _mm512_srli_epi16(line, (unsigned)(i % places * bits)),
                            (1 << bits) - 1, e, i);
    }
  }
  if (nibble_has_selectors(kind))
    e->selectors += nibble_is_blocks(kind) ? 24 : blocks ? 12 / blocks : 0;
}
