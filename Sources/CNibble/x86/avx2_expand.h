// From packed codes to tiles of signed bytes, for avx2.c, which says what TARGET is.

// The 32-byte half `half` of the codes of a tile.
TARGET_INLINE __m256i load_codes(int32_t kind, const uint8_t *codes, int32_t tile, int half) {
  const int32_t bits = nibble_code_bits(kind);
  const uint8_t *unit =
      codes + tile / nibble_unit_tiles(kind) * nibble_unit_bytes(kind) + half * 32;
  if (bits == 8) return _mm256_loadu_si256((const __m256i *)(const void *)unit);
  if (bits == 3) {
    const int32_t k = tile % 8;
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(unit + k / 4 * 64)),
                  h = _mm256_loadu_si256((const __m256i *)(const void *)(unit + 128));
    const __m256i low = _mm256_srl_epi16(x, _mm_cvtsi32_si128(k % 4 * 2)),
                  high = _mm256_srl_epi16(h, _mm_cvtsi32_si128(k));
    return _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(3)),
                           _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(1)), 2));
  }
  const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)unit);
  return _mm256_and_si256(_mm256_srl_epi16(x, _mm_cvtsi32_si128(tile % (8 / bits) * bits)),
                          _mm256_set1_epi8((char)((1 << bits) - 1)));
}

TARGET_INLINE __m256i shift_left(__m256i x, int32_t bits) {
  return _mm256_sll_epi16(x, _mm_cvtsi32_si128(bits));
}

// Indices of a trellis (nibble_trellis_index), from the codes of the tile and of those before it:
// codes[age], each byte with one code.
TARGET_INLINE __m256i trellis_index(int32_t kind, int32_t tile, const __m256i codes[8]) {
  const int32_t bits = nibble_code_bits(kind);
  if (bits == 4)
    return tile % 2 ? _mm256_or_si256(shift_left(codes[0], 4), codes[1])
                    : _mm256_or_si256(shift_left(codes[1], 4), codes[0]);
  if (bits == 3) {
    const __m256i low = _mm256_set1_epi8(3), high = _mm256_set1_epi8(4);
    const __m256i tops = _mm256_or_si256(_mm256_srli_epi16(_mm256_and_si256(codes[0], high), 1),
                                         _mm256_srli_epi16(_mm256_and_si256(codes[1], high), 2));
    __m256i index = _mm256_or_si256(tops, shift_left(_mm256_and_si256(codes[0], low), 6));
    index = _mm256_or_si256(index, shift_left(_mm256_and_si256(codes[1], low), 4));
    return _mm256_or_si256(index, shift_left(_mm256_and_si256(codes[2], low), 2));
  }
  __m256i index = _mm256_setzero_si256();
  for (int age = 0; age < 8 / bits; age++)
    index = _mm256_or_si256(index, shift_left(codes[age], 8 - (age + 1) * bits));
  return index;
}

// Entries of a table of `parts` times 16: of each part by a shuffle, then the right one bit by bit.
TARGET_INLINE __m256i look_up(int parts, __m256i index, const int8_t *table) {
  __m256i found[16];
  const __m256i low = _mm256_and_si256(index, _mm256_set1_epi8(15));
  for (int i = 0; i < parts; i++)
    found[i] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(
                                       (const __m128i *)(const void *)(table + i * 16))),
                                   low);
  for (int bit = 4, left = parts / 2; left > 0; bit++, left /= 2) {
    const __m256i is_second = shift_left(index, 7 - bit);
    for (int i = 0; i < left; i++)
      found[i] = _mm256_blendv_epi8(found[2 * i], found[2 * i + 1], is_second);
  }
  return found[0];
}

TARGET_INLINE void expand_trellis(int32_t kind, const uint8_t *codes, const int8_t *table,
                                  int32_t tiles, int8_t *out) {
  const int32_t bits = nibble_code_bits(kind), ages = bits == 3 ? 3 : 8 / bits;
  for (int half = 0; half < 2; half++) {
    __m256i window[8];
    for (int age = 0; age < ages; age++)
      window[age] = load_codes(kind, codes, ((-age) % tiles + tiles) % tiles, half);
    for (int32_t tile = 0; tile < tiles; tile++) {
      if (tile > 0) {
        for (int age = ages - 1; age > 0; age--) window[age] = window[age - 1];
        window[0] = load_codes(kind, codes, tile, half);
      }
      _mm256_storeu_si256((__m256i *)(void *)(out + tile * 64 + half * 32),
                          look_up(16, trellis_index(kind, tile, window), table));
    }
  }
}

// ---- Codebooks

// Eight selectors, one for each lane, in bits 4 to 6 of its bytes.
TARGET_INLINE __m256i selectors_by_lane(const uint8_t *selectors) {
  int32_t word = selectors[0] | selectors[1] << 8 | selectors[2] << 16;
  const __m256i lanes = _mm256_and_si256(
      _mm256_srlv_epi32(_mm256_set1_epi32(word), _mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21)),
      _mm256_set1_epi32(7));
  return _mm256_mullo_epi32(lanes, _mm256_set1_epi32(0x10101010));
}

// Four selectors from the multiple of four `number`, one for each byte of every lane.
TARGET_INLINE __m256i selectors_by_byte(const uint8_t *selectors, int32_t number) {
  const int32_t bit = NIBBLE_SELECTOR_BITS * number;
  const uint8_t *at = selectors + bit / 8;
  const uint32_t word = (uint32_t)(at[0] | at[1] << 8) >> bit % 8;
  return _mm256_set1_epi32((int32_t)((word & 0x007) << 4 | (word & 0x038) << 9 |
                                     (word & 0x1c0) << 14 | (word & 0xe00) << 19));
}

// Of one half of a tile.
TARGET_INLINE __m256i selectors_of(int32_t kind, const uint8_t *selectors, bool is_values,
                                   int32_t block_tokens, int32_t tile, int32_t half) {
  const int32_t blocks = block_tokens / 16, quad = tile / blocks, lanes = tile % blocks;
  if (nibble_is_blocks(kind))
    return is_values ? selectors_by_byte(selectors, tile * 8 + half * 4)
                     : selectors_by_lane(selectors + (quad / 2 * blocks + lanes) * 6 + half * 3);
  return is_values ? selectors_by_lane(selectors + tile / (block_tokens / 4) * 6 + half * 3)
                   : selectors_by_byte(selectors, quad * 4);
}

TARGET_INLINE void expand_codebooks(int32_t kind, const uint8_t *codes, const int8_t *table,
                                    bool is_values, int32_t block_tokens, int32_t channels,
                                    int8_t *out) {
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels);
  const uint8_t *selectors = codes + nibble_code_lines(kind, is_values, block_tokens, channels);
  for (int32_t tile = 0; tile < tiles; tile++)
    for (int32_t half = 0; half < 2; half++) {
      const __m256i index =
          _mm256_or_si256(load_codes(kind, codes, tile, half),
                          selectors_of(kind, selectors, is_values, block_tokens, tile, half));
      _mm256_storeu_si256((__m256i *)(void *)(out + tile * 64 + half * 32),
                          look_up(NIBBLE_CODEBOOKS, index, table));
    }
}

TARGET_INLINE void expand_block(int32_t kind, const uint8_t *codes, const int8_t *table,
                                bool is_values, int32_t block_tokens, int32_t channels,
                                int8_t *out) {
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels);
  if (nibble_is_trellis(kind)) {
    expand_trellis(kind, codes, table, tiles, out);
    return;
  }
  if (nibble_has_selectors(kind)) {
    expand_codebooks(kind, codes, table, is_values, block_tokens, channels, out);
    return;
  }
  if (kind == NIBBLE_INT8) {
    memcpy(out, codes, (size_t)tiles * 64);
    return;
  }
  for (int32_t tile = 0; tile < tiles; tile++)
    for (int half = 0; half < 2; half++)
      _mm256_storeu_si256((__m256i *)(void *)(out + tile * 64 + half * 32),
                          look_up(1, load_codes(kind, codes, tile, half), table));
}
