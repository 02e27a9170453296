// From packed codes to tiles of signed bytes, for files that say what TARGET is. Registers hold
// half a tile: 32 bytes, eight lanes of four.

TARGET_INLINE __m256i load_bytes(const void *bytes) {
  return _mm256_loadu_si256((const __m256i *)bytes);
}

TARGET_INLINE void store_bytes(void *bytes, __m256i x) { _mm256_storeu_si256((__m256i *)bytes, x); }

// Sixteen entries of a table, in both halves of a register, for shuffles.
TARGET_INLINE __m256i load_entries(const int8_t *table) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
}

// The codes of one half of a tile; `codes` is where that half of the first line lies.
TARGET_INLINE __m256i load_codes(int32_t kind, const uint8_t *codes, int32_t tile) {
  const int32_t bits = nibble_code_bits(kind);
  const uint8_t *unit = codes + tile / nibble_unit_tiles(kind) * nibble_unit_bytes(kind);
  if (bits == 8) return load_bytes(unit);
  if (bits == 3) {
    const int32_t k = tile % 8;
    const __m256i x = load_bytes(unit + k / 4 * 64), h = load_bytes(unit + 128);
    const __m256i low = _mm256_srli_epi16(x, k % 4 * 2),
                  high = k < 2 ? _mm256_slli_epi16(h, 2 - k) : _mm256_srli_epi16(h, k - 2);
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(3)),
                           _mm256_and_si256(high, _mm256_set1_epi8(4)));
  }
  return _mm256_and_si256(_mm256_srli_epi16(load_bytes(unit), tile % (8 / bits) * bits),
                          _mm256_set1_epi8((char)((1 << bits) - 1)));
}

// ---- Look-ups in large tables

// Tables of sixteen entries that make up one of 128 or 256, each but the first as what it differs
// by from the one before.
typedef struct {
  __m256i difference[NIBBLE_TRELLIS_ENTRIES / 16];
} large_table;

TARGET_INLINE large_table load_large(const int8_t *table, int32_t entries) {
  large_table t;
  __m256i before = _mm256_setzero_si256();
  for (int32_t i = 0; i < entries / 16; i++) {
    const __m256i part = load_entries(table + i * 16);
    t.difference[i] = _mm256_xor_si256(part, i == 8 ? _mm256_setzero_si256() : before);
    before = part;
  }
  return t;
}

// Entries of the tables `first` to `first + 7`, for indices of 0 to 127, and zero for others. A
// shuffle gives zero where an index is negative: with every table sixteen are subtracted, and what
// came before is corrected by the difference for those that are not there yet.
TARGET_INLINE __m256i look_up_half(__m256i index, const large_table *table, int first) {
  __m256i found = _mm256_shuffle_epi8(table->difference[first], index);
  NIBBLE_UNROLLED
  for (int i = 1; i < 8; i++) {
    index = _mm256_subs_epi8(index, _mm256_set1_epi8(16));
    found = _mm256_xor_si256(found, _mm256_shuffle_epi8(table->difference[first + i], index));
  }
  return found;
}

// ---- Trellis

// Bits of `a` where `mask` is set, of `b` elsewhere.
TARGET_INLINE __m256i choose(int mask, __m256i a, __m256i b) {
  const __m256i bits = _mm256_set1_epi8((char)mask);
  return _mm256_or_si256(_mm256_and_si256(bits, a), _mm256_andnot_si256(bits, b));
}

// Turns the bits of every byte to the left.
TARGET_INLINE __m256i turn(__m256i x, int left) {
  const int mask = (0xff << left) & 0xff;
  return choose(mask, _mm256_slli_epi16(x, left), _mm256_srli_epi16(x, 8 - left));
}

// Where a chain stands: the last line of codes (with 3 bits of their lower bits), and with 3 bits
// the last upper bits.
typedef struct {
  __m256i line, high;
} chain;

TARGET_INLINE chain chain_before(int32_t kind, const uint8_t *codes, int32_t tiles) {
  const int32_t unit = nibble_unit_tiles(kind);
  const uint8_t *end = codes + tiles / unit * nibble_unit_bytes(kind);
  if (kind == NIBBLE_TRELLIS3)
    return (chain){load_bytes(end - 128), _mm256_srli_epi16(load_bytes(end - 64), 7)};
  return (chain){load_bytes(end - 64), _mm256_setzero_si256()};
}

// Indices (nibble_trellis_index) of the tiles of one packing unit.
TARGET_INLINE void trellis_indices(int32_t kind, const uint8_t *unit, chain *last,
                                   __m256i *indices) {
  const int bits = nibble_code_bits(kind), width = bits == 3 ? 2 : bits, places = 8 / width;
  const __m256i high = bits == 3 ? load_bytes(unit + 128) : _mm256_setzero_si256();
  NIBBLE_UNROLLED
  for (int i = 0; i < nibble_unit_tiles(kind); i++) {
    const int place = i % places;
    const bool is_last = place == places - 1;
    const __m256i line = load_bytes(unit + i / places * 64);
    __m256i index = is_last ? line : choose((1 << (place + 1) * width) - 1, line, last->line);
    if (bits < 4 && !is_last) index = turn(index, (places - 1 - place) * width);
    // The upper bits of the current code and of the one before it.
    if (bits == 3)
      index = choose(3,
                     i == 0 ? choose(1, last->high, _mm256_slli_epi16(high, 1))
                            : _mm256_srli_epi16(high, i - 1),
                     index);
    indices[i] = index;
    if (is_last) last->line = line;
  }
  if (bits == 3) last->high = _mm256_srli_epi16(high, 7);
}

// The entries of a trellis. Half of an odd table is enough.
TARGET_INLINE __m256i look_up(int32_t kind, __m256i index, const large_table *table) {
  const __m256i highest = _mm256_set1_epi8((char)0x80);
  if (!nibble_is_odd(kind))
    return _mm256_or_si256(look_up_half(index, table, 0),
                           look_up_half(_mm256_xor_si256(index, highest), table, 8));
  const __m256i is_upper = _mm256_cmpgt_epi8(_mm256_setzero_si256(), index);
  if (kind == NIBBLE_TRELLIS4)
    index = _mm256_andnot_si256(highest, _mm256_abs_epi8(index));
  else
    index =
        _mm256_xor_si256(index, _mm256_and_si256(is_upper, _mm256_set1_epi8((char)NIBBLE_MIRROR3)));
  const __m256i found = look_up_half(index, table, 0);
  return _mm256_sub_epi8(_mm256_xor_si256(found, is_upper), is_upper);
}

// Tiles that are no whole number of units are few: their indices are found one by one.
static void expand_trellis_slowly(int32_t kind, const uint8_t *codes, const int8_t *table,
                                  int32_t tiles, int8_t *out) {
  for (int32_t tile = 0; tile < tiles; tile++)
    for (int32_t byte = 0; byte < 64; byte++)
      out[tile * 64 + byte] = table[nibble_trellis_index(kind, codes, tiles, tile, byte)];
}

TARGET_INLINE void expand_trellis(int32_t kind, const uint8_t *codes, const int8_t *table,
                                  int32_t tiles, int8_t *out, nibble_feed *feed) {
  const int32_t unit = nibble_unit_tiles(kind), bytes = nibble_unit_bytes(kind);
  if (tiles % unit) {
    expand_trellis_slowly(kind, codes, table, tiles, out);
    return;
  }
  const large_table large =
      load_large(table, nibble_is_odd(kind) ? NIBBLE_TRELLIS_ENTRIES / 2 : NIBBLE_TRELLIS_ENTRIES);
  chain chains[2] = {chain_before(kind, codes, tiles), chain_before(kind, codes + 32, tiles)};
  for (int32_t tile = 0; tile < tiles; tile += unit, codes += bytes, out += unit * 64) {
    nibble_fetch(feed, bytes / 64);
    for (int half = 0; half < 2; half++) {
      __m256i indices[8];
      trellis_indices(kind, codes + half * 32, &chains[half], indices);
      NIBBLE_UNROLLED
      for (int i = 0; i < unit; i++)
        store_bytes(out + i * 64 + half * 32, look_up(kind, indices[i], &large));
    }
  }
}

// ---- Codebooks

enum { MAX_SELECTORS = NIBBLE_MAX_BLOCK_TOKENS * NIBBLE_MAX_CHANNELS / NIBBLE_CODEBOOK_BLOCK };

// Selectors as bytes, where an index has them: in bits 4 to 6. Loads begin before the selectors, so
// that none passes the end of a strip.
TARGET_INLINE void unpack_selectors(const uint8_t *selectors, int32_t count, uint8_t *out) {
  // Twelve bytes, three for each two lanes: four selectors a lane.
  const __m256i places =
      _mm256_setr_epi8(4, 5, -1, -1, 5, 6, -1, -1, 7, 8, -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 11,
                       12, -1, -1, 13, 14, -1, -1, 14, 15, -1, -1);
  const __m256i shifts = _mm256_setr_epi32(0, 4, 0, 4, 0, 4, 0, 4);
  int32_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m128i bytes =
        _mm_loadu_si128((const __m128i *)(const void *)(selectors + i / 8 * 3 - 4));
    const __m256i four =
        _mm256_srlv_epi32(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), places), shifts);
    const __m256i two =
        _mm256_or_si256(_mm256_and_si256(four, _mm256_set1_epi32(0x3f)),
                        _mm256_and_si256(_mm256_slli_epi32(four, 10), _mm256_set1_epi32(0x3f0000)));
    store_bytes(
        out + i,
        _mm256_or_si256(_mm256_and_si256(_mm256_slli_epi16(two, 4), _mm256_set1_epi16(0x70)),
                        _mm256_and_si256(_mm256_slli_epi16(two, 9), _mm256_set1_epi16(0x7000))));
  }
  for (; i < count; i++) out[i] = (uint8_t)(nibble_get_selector(selectors, i) << 4);
}

// Eight selectors, one for each lane.
TARGET_INLINE __m256i selectors_by_lane(const uint8_t *unpacked) {
  int64_t eight;
  memcpy(&eight, unpacked, sizeof eight);
  return _mm256_shuffle_epi8(_mm256_set1_epi64x(eight),
                             _mm256_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4,
                                              4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7));
}

// Four selectors, one for each byte of every lane.
TARGET_INLINE __m256i selectors_by_byte(const uint8_t *unpacked) {
  int32_t four;
  memcpy(&four, unpacked, sizeof four);
  return _mm256_set1_epi32(four);
}

// Of one half of a tile.
TARGET_INLINE __m256i selectors_of(int32_t kind, const uint8_t *unpacked, bool is_values,
                                   int32_t block_tokens, int32_t tile, int32_t half) {
  const int32_t blocks = block_tokens / 16, quad = tile / blocks, lanes = tile % blocks;
  if (nibble_is_blocks(kind))
    return is_values ? selectors_by_byte(unpacked + tile * 8 + half * 4)
                     : selectors_by_lane(unpacked + (quad / 2 * blocks + lanes) * 16 + half * 8);
  return is_values ? selectors_by_lane(unpacked + tile / (block_tokens / 4) * 16 + half * 8)
                   : selectors_by_byte(unpacked + quad * 4);
}

TARGET_INLINE void expand_codebooks(int32_t kind, const uint8_t *codes, const int8_t *table,
                                    bool is_values, int32_t block_tokens, int32_t channels,
                                    int8_t *out, nibble_feed *feed) {
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels),
                unit = nibble_unit_tiles(kind), bytes = nibble_unit_bytes(kind);
  const large_table large = load_large(table, NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES);
  uint8_t selectors[MAX_SELECTORS];
  unpack_selectors(codes + nibble_code_lines(kind, is_values, block_tokens, channels),
                   nibble_selectors(kind, is_values, block_tokens, channels), selectors);
  for (int32_t first = 0; first < tiles; first += unit, codes += bytes) {
    nibble_fetch(feed, bytes / 64);
    for (int32_t i = 0; i < unit && first + i < tiles; i++)
      for (int32_t half = 0; half < 2; half++) {
        const __m256i index = _mm256_or_si256(
            load_codes(kind, codes + half * 32, i),
            selectors_of(kind, selectors, is_values, block_tokens, first + i, half));
        store_bytes(out + (first + i) * 64 + half * 32, look_up_half(index, &large, 0));
      }
  }
}

// A constant length of blocks spares divisions.
TARGET_INLINE void expand_codebook_block(int32_t kind, const uint8_t *codes, const int8_t *table,
                                         bool is_values, int32_t block_tokens, int32_t channels,
                                         int8_t *out, nibble_feed *feed) {
  if (block_tokens == NIBBLE_MAX_BLOCK_TOKENS)
    expand_codebooks(kind, codes, table, is_values, NIBBLE_MAX_BLOCK_TOKENS, channels, out, feed);
  else
    expand_codebooks(kind, codes, table, is_values, block_tokens, channels, out, feed);
}

// ---- Blocks

TARGET_INLINE void expand_codes(int32_t kind, const uint8_t *codes, const int8_t *table,
                                int32_t tiles, int8_t *out, nibble_feed *feed) {
  const int32_t unit = nibble_unit_tiles(kind), bytes = nibble_unit_bytes(kind);
  const __m256i entries = load_entries(table);
  for (int32_t tile = 0; tile < tiles; tile += unit, codes += bytes, out += unit * 64) {
    nibble_fetch(feed, bytes / 64);
    for (int32_t i = 0; i < unit && tile + i < tiles; i++)
      for (int half = 0; half < 2; half++)
        store_bytes(out + i * 64 + half * 32,
                    _mm256_shuffle_epi8(entries, load_codes(kind, codes + half * 32, i)));
  }
}

TARGET_INLINE void expand_block(int32_t kind, const uint8_t *codes, const int8_t *table,
                                bool is_values, int32_t block_tokens, int32_t channels, int8_t *out,
                                nibble_feed *feed) {
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels);
  if (nibble_is_trellis(kind))
    expand_trellis(kind, codes, table, tiles, out, feed);
  else if (nibble_has_selectors(kind) && is_values)
    expand_codebook_block(kind, codes, table, true, block_tokens, channels, out, feed);
  else if (nibble_has_selectors(kind))
    expand_codebook_block(kind, codes, table, false, block_tokens, channels, out, feed);
  else if (kind == NIBBLE_INT8)
    memcpy(out, codes, (size_t)tiles * 64);
  else
    expand_codes(kind, codes, table, tiles, out, feed);
}
