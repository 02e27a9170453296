// From packed codes to signed bytes, for the files of this folder, which say what TARGET is. A
// register holds a quarter of a tile, four lanes: the sixteen bytes at the same place of a line.

enum { QUARTERS = 4, QUARTER_BYTES = 16 };

// Eight tiles are one step: a whole number of packing units for each kind.
enum { STEP = 8 };

typedef struct {
  uint8x16x4_t part[4];  // 64 entries each; one register for plain codes
  uint8x16_t flip;       // what int8, which has no table, flips in its codes
} entry_table;

// `flip`: bits to flip in every entry, so that it becomes unsigned.
TARGET_INLINE entry_table load_table(int32_t kind, const int8_t *table, uint8_t flip) {
  entry_table t;
  t.flip = vdupq_n_u8(flip);
  if (kind == NIBBLE_INT8) return t;
  const uint8_t *bytes = (const uint8_t *)table;
  if (!nibble_is_trellis(kind) && !nibble_has_selectors(kind)) {
    t.part[0].val[0] = veorq_u8(vld1q_u8(bytes), t.flip);
    return t;
  }
  for (int i = 0; i < (nibble_is_trellis(kind) && !nibble_is_odd(kind) ? 4 : 2); i++)
    for (int j = 0; j < 4; j++)
      t.part[i].val[j] = veorq_u8(vld1q_u8(bytes + i * 64 + j * 16), t.flip);
  return t;
}

// The share of one quarter in the lines of a step.
TARGET_INLINE void fetch_step(int32_t lines, int32_t quarter, nibble_feed *feed) {
  for (int32_t line = quarter; line < lines; line += QUARTERS) nibble_fetch(feed, 1);
}

// Every byte shifted to the right, with a negative count to the left.
TARGET_INLINE uint8x16_t shift_right(uint8x16_t x, int count) {
  return count < 0 ? x << vdupq_n_u8((uint8_t)-count) : x >> vdupq_n_u8((uint8_t)count);
}

// The codes of tile i of a step. `step`: where it begins, and 16 bytes on for each quarter.
TARGET_INLINE uint8x16_t load_codes(int32_t kind, const uint8_t *step, int i) {
  const int32_t bits = nibble_code_bits(kind);
  if (bits == 8) return vld1q_u8(step + i * 64);
  const int width = bits == 3 ? 2 : bits, places = 8 / width, place = i % places;
  const uint8x16_t x = shift_right(vld1q_u8(step + i / places * 64), place * width),
                   mask = vdupq_n_u8((uint8_t)((1 << width) - 1));
  if (bits == 3) {
    const uint8x16_t tops = shift_right(vld1q_u8(step + 128), i - 2);
    return vandq_u8(vbslq_u8(mask, x, tops), vdupq_n_u8(7));
  }
  return place == places - 1 ? x : vandq_u8(x, mask);
}

// The entries of tile i of a step of int8 or of plain codes.
TARGET_INLINE uint8x16_t load_entries(int32_t kind, const uint8_t *step, int i,
                                      const entry_table *t) {
  const uint8x16_t codes = load_codes(kind, step, i);
  return kind == NIBBLE_INT8 ? veorq_u8(codes, t->flip) : vqtbl1q_u8(t->part[0].val[0], codes);
}

// Entries of a table of `parts` times 64. An index beyond a part gives zero there; that is less
// work than to keep what an earlier part gave (tbx).
TARGET_INLINE uint8x16_t look_up(int parts, uint8x16_t index, const entry_table *t) {
  uint8x16_t found = vqtbl4q_u8(t->part[0], index);
  for (int i = 1; i < parts; i++)
    found = vorrq_u8(found, vqtbl4q_u8(t->part[i], vsubq_u8(index, vdupq_n_u8((uint8_t)(i * 64)))));
  return found;
}

TARGET_INLINE void expand_codes(int32_t kind, const uint8_t *codes, const entry_table *t,
                                int32_t tiles, int8_t *out, nibble_feed *feed) {
  const int32_t lines = nibble_code_bits(kind);
  for (int32_t tile = 0; tile < tiles; tile += STEP, codes += lines * 64)
    for (int32_t quarter = 0; quarter < QUARTERS; quarter++) {
      fetch_step(lines, quarter, feed);
      NIBBLE_UNROLLED
      for (int i = 0; i < STEP; i++)
        vst1q_s8(out + (tile + i) * 64 + quarter * QUARTER_BYTES,
                 vreinterpretq_s8_u8(load_entries(kind, codes + quarter * QUARTER_BYTES, i, t)));
    }
}

// ---- Trellis

// What a chain carries from step to step.
typedef struct {
  uint8x16_t line;  // the last line of codes; with 3 bits of their lower bits
  uint8x16_t high;  // with 3 bits the last upper bits, as the lowest of each byte
} chain_end;

// Indices (nibble_trellis_index) of tile i of a step. Older codes come from the line before.
TARGET_INLINE uint8x16_t trellis_index(int32_t kind, const uint8_t *step, int i, chain_end *end) {
  const int bits = nibble_code_bits(kind), width = bits == 3 ? 2 : bits, places = 8 / width;
  const int place = i % places, left = (places - 1 - place) * width;
  const uint8x16_t line = vld1q_u8(step + i / places * 64);
  uint8x16_t index = line;
  if (place == places - 1) {
    end->line = line;
  } else {
    index = vbslq_u8(vdupq_n_u8((uint8_t)((1 << (place + 1) * width) - 1)), line, end->line);
    if (bits < 4) index = shift_right(index, -left) | shift_right(index, 8 - left);
  }
  if (bits != 3) return index;
  // The upper bits of the current code and of the one before it.
  const uint8x16_t high = vld1q_u8(step + 128);
  const uint8x16_t tops =
      i == 0 ? vbslq_u8(vdupq_n_u8(1), end->high, shift_right(high, -1)) : shift_right(high, i - 1);
  if (i == STEP - 1) end->high = shift_right(high, 7);
  return vbslq_u8(vdupq_n_u8(3), tops, index);
}

// The entries of a trellis. Half of an odd table is enough.
TARGET_INLINE uint8x16_t trellis_entries(int32_t kind, uint8x16_t index, const entry_table *t) {
  if (!nibble_is_odd(kind)) return look_up(4, index, t);
  const uint8x16_t is_upper = vcltzq_s8(vreinterpretq_s8_u8(index));
  if (kind == NIBBLE_TRELLIS4)
    index = vreinterpretq_u8_s8(vabsq_s8(vreinterpretq_s8_u8(index))) & vdupq_n_u8(0x7f);
  else
    index = veorq_u8(index, vandq_u8(is_upper, vdupq_n_u8(NIBBLE_MIRROR3)));
  return vsubq_u8(veorq_u8(look_up(2, index, t), is_upper), is_upper);
}

// The chain of every byte runs around: it begins behind the block's last step.
TARGET_INLINE void expand_trellis(int32_t kind, const uint8_t *codes, const entry_table *t,
                                  int32_t tiles, int8_t *out, nibble_feed *feed) {
  const int32_t lines = nibble_code_bits(kind);
  for (int32_t quarter = 0; quarter < QUARTERS; quarter++) {
    const uint8_t *step = codes + quarter * QUARTER_BYTES,
                  *last = step + (tiles / STEP - 1) * lines * 64;
    int8_t *at = out + quarter * QUARTER_BYTES;
    chain_end end;
    trellis_index(kind, last, STEP - 1, &end);
    for (int32_t tile = 0; tile < tiles; tile += STEP, step += lines * 64) {
      fetch_step(lines, quarter, feed);
      NIBBLE_UNROLLED
      for (int i = 0; i < STEP; i++, at += 64)
        vst1q_s8(at,
                 vreinterpretq_s8_u8(trellis_entries(kind, trellis_index(kind, step, i, &end), t)));
    }
  }
}

// ---- Codebooks

// `count` tiles share their channels: those of a quad of keys, or of a column of values. The
// selectors of tile `inner` of such a stretch `outer`, from the lowest bit.
TARGET_INLINE uint64_t load_selectors(int32_t kind, bool is_values, const uint8_t *selectors,
                                      int32_t outer, int32_t inner, int32_t count) {
  int32_t number = outer, bits = is_values ? 48 : 12;
  if (nibble_is_blocks(kind)) {
    number = (is_values ? outer : outer / 2) * count + inner;
    bits = is_values ? 24 : 48;
  }
  // Loads begin before the selectors, so that none passes the end of a strip.
  const size_t first = (size_t)(number * bits), end = (first + (size_t)bits + 7) / 8;
  uint64_t word;
  memcpy(&word, selectors + end - sizeof word, sizeof word);
  return word >> (64 - 8 * end + first);
}

// Sixteen selectors of a word, each in bits 4 to 6 of a byte.
TARGET_INLINE uint8x16_t place_selectors(uint64_t word) {
  static const uint8_t pairs[16] = {0, 1, 0, 1, 0, 1, 1, 2, 1, 2, 1, 2, 2, 3, 2, 3};
  static const int16_t left[8] = {4, 1, -2, 3, 0, -3, 2, -1};
  const uint8x16_t bytes = vreinterpretq_u8_u64(vdupq_n_u64(word)), low = vld1q_u8(pairs);
  const int16x8_t shifts = vld1q_s16(left);
  const uint16x8_t a = vreinterpretq_u16_u8(vqtbl1q_u8(bytes, low)),
                   b = vreinterpretq_u16_u8(vqtbl1q_u8(bytes, vaddq_u8(low, vdupq_n_u8(3))));
  return vandq_u8(vuzp1q_u8(vreinterpretq_u8_u16(vshlq_u16(a, shifts)),
                            vreinterpretq_u8_u16(vshlq_u16(b, shifts))),
                  vdupq_n_u8(0x70));
}

// Which of a tile's selectors belongs to each byte of a quarter: there is one for each lane (tokens
// of keys by blocks, channels of values by columns), for each byte of a lane (channels of keys by
// columns), or for each byte of either half of the lanes (tokens of values by blocks).
TARGET_INLINE uint8x16_t selector_places(int32_t kind, bool is_values, int32_t quarter) {
  static const uint8_t by_lane[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  static const uint8_t by_byte[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
  if (nibble_is_blocks(kind) != is_values)
    return vaddq_u8(vld1q_u8(by_lane), vdupq_n_u8((uint8_t)(quarter * 4)));
  return vaddq_u8(vld1q_u8(by_byte), vdupq_n_u8((uint8_t)(is_values ? quarter / 2 * 4 : 0)));
}

TARGET_INLINE void expand_codebooks(int32_t kind, const uint8_t *codes, const entry_table *t,
                                    bool is_values, int32_t block_tokens, int32_t channels,
                                    int8_t *out, nibble_feed *feed) {
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels),
                count = is_values ? block_tokens / 4 : block_tokens / 16,
                lines = nibble_code_bits(kind);
  const uint8_t *selectors = codes + nibble_code_lines(kind, is_values, block_tokens, channels);
  int32_t outer = 0, inner = 0;
  for (int32_t tile = 0; tile < tiles; tile += STEP, codes += lines * 64) {
    nibble_fetch(feed, lines);
    NIBBLE_UNROLLED
    for (int i = 0; i < STEP; i++, out += 64) {
      const uint8x16_t all =
          place_selectors(load_selectors(kind, is_values, selectors, outer, inner, count));
      for (int32_t quarter = 0; quarter < QUARTERS; quarter++) {
        const uint8x16_t index =
            vorrq_u8(load_codes(kind, codes + quarter * QUARTER_BYTES, i),
                     vqtbl1q_u8(all, selector_places(kind, is_values, quarter)));
        vst1q_s8(out + quarter * QUARTER_BYTES, vreinterpretq_s8_u8(look_up(2, index, t)));
      }
      if (++inner == count) {
        inner = 0;
        outer++;
      }
    }
  }
}

// ---- All kinds

// Blocks that are no whole number of steps are rare and left to plain C.
TARGET_INLINE void expand_block(int32_t kind, const uint8_t *codes, const int8_t *table,
                                bool is_values, int32_t block_tokens, int32_t channels, int8_t *out,
                                nibble_feed *feed) {
  const int32_t tiles = nibble_block_tiles(is_values, block_tokens, channels);
  if (kind == NIBBLE_INT8) {
    memcpy(out, codes, (size_t)tiles * 64);
    return;
  }
  if (tiles % STEP != 0) {
    nibble_scalar_kernels.expand[kind](codes, table, is_values, block_tokens, channels, out);
    return;
  }
  const entry_table t = load_table(kind, table, 0);
  if (nibble_is_trellis(kind))
    expand_trellis(kind, codes, &t, tiles, out, feed);
  else if (!nibble_has_selectors(kind))
    expand_codes(kind, codes, &t, tiles, out, feed);
  else if (is_values)
    expand_codebooks(kind, codes, &t, true, block_tokens, channels, out, feed);
  else
    expand_codebooks(kind, codes, &t, false, block_tokens, channels, out, feed);
}
