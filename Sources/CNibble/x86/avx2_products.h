// Sums of products of a block's entries and its rows' operands (queries or weights). Four bytes of
// a lane are one quad; each quad is summed in its 32-bit lane. Files whose instructions do so at
// once define DOT_QUADS(sums, unsigned bytes, signed bytes); the others have two ways.
//
// Wide: any entries, in sixteen bits. The even and the odd bytes of a lane, shifted up by eight,
// are a register each, and so are the operands.
//
// Narrow: small entries, by multiplications of bytes whose sums stay in sixteen bits for a few
// quads. Codes of evenly spaced tables are such entries, and so are the shipped codebooks.

// Rows that pass through a block together, and the half tiles of one pass: their sums fill half of
// the registers.
enum { ROWS = 4, HALVES = 2, MAX_QUADS = NIBBLE_MAX_CHANNELS / 4, WIDE_QUADS = 64 };

#if defined(DOT_QUADS)
enum { HAS_DOT_QUADS = 1 };
#else
enum { HAS_DOT_QUADS = 0 };
#define DOT_QUADS(sums, unsigned_bytes, signed_bytes)                                              \
  ((void)(unsigned_bytes), (void)(signed_bytes), (sums))
#endif
// What flips the entries of keys where one factor must be unsigned: they count from -128 then.
enum { KEY_FLIP = HAS_DOT_QUADS ? 0x80 : 0 };

// How the entries of a block are multiplied.
typedef struct {
  bool is_narrow;
  // Narrow: the entry of a code (or of a byte, once expanded) is base + step * code.
  int32_t base, step;
  int32_t quads;  // that sixteen bits can sum
} entry_form;

// Operands of ROWS rows: quads as they are, or their even and odd bytes in sixteen bits.
typedef struct {
  int32_t even[ROWS][MAX_QUADS], odd[ROWS][MAX_QUADS];
} operand_rows;

typedef struct {
  __m256i lanes[ROWS][HALVES];
} sums;

// ---- Operands

// The sum of `count` (a multiple of 8) bytes.
TARGET_INLINE int32_t sum_bytes(bool is_signed, const uint8_t *bytes, int32_t count) {
  const __m256i flip = _mm256_set1_epi8((char)(is_signed ? 0x80 : 0)),
                zero = _mm256_setzero_si256();
  __m256i sum = zero;
  int32_t i = 0;
  for (; i + 32 <= count; i += 32)
    sum =
        _mm256_add_epi64(sum, _mm256_sad_epu8(_mm256_xor_si256(load_bytes(bytes + i), flip), zero));
  for (; i < count; i += 8) {
    int64_t eight;
    memcpy(&eight, bytes + i, sizeof eight);
    const __m256i x = _mm256_xor_si256(_mm256_set_epi64x(0, 0, 0, eight),
                                       _mm256_and_si256(flip, _mm256_set_epi64x(0, 0, 0, -1)));
    sum = _mm256_add_epi64(sum, _mm256_sad_epu8(x, zero));
  }
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  const int32_t total =
      (int32_t)(_mm_cvtsi128_si64(half) + _mm_cvtsi128_si64(_mm_unpackhi_epi64(half, half)));
  return is_signed ? total - 128 * count : total;
}

// Quads of weights (unsigned) or queries (signed), widened.
TARGET_INLINE __m256i even_bytes(bool is_values, __m256i x) {
  return is_values ? _mm256_and_si256(x, _mm256_set1_epi16(0xff))
                   : _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
}

TARGET_INLINE __m256i odd_bytes(bool is_values, __m256i x) {
  return is_values ? _mm256_srli_epi16(x, 8) : _mm256_srai_epi16(x, 8);
}

// Of one row, `count` (a multiple of 8) bytes.
TARGET_INLINE void load_operands(bool is_values, bool is_narrow, const uint8_t *bytes,
                                 int32_t count, int32_t *even, int32_t *odd) {
  if (is_narrow || HAS_DOT_QUADS) {
    memcpy(even, bytes, (size_t)count);
    return;
  }
  int32_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i x = load_bytes(bytes + i);
    store_bytes(even + i / 4, even_bytes(is_values, x));
    store_bytes(odd + i / 4, odd_bytes(is_values, x));
  }
  for (; i < count; i += 4)
    for (int32_t j = 0; j < 2; j++) {
      const uint8_t *pair = bytes + i + j;
      const int16_t first = is_values ? pair[0] : (int8_t)pair[0],
                    second = is_values ? pair[2] : (int8_t)pair[2];
      (j ? odd : even)[i / 4] = (int32_t)((uint32_t)(uint16_t)first | (uint32_t)second << 16);
    }
}

// ---- Products

TARGET_INLINE void clear_sums(int32_t rows, sums *sum) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < HALVES; i++) sum->lanes[r][i] = _mm256_setzero_si256();
}

// Adds the products of one quad of every lane.
TARGET_INLINE void add_dot_quads(bool is_values, int32_t rows, const __m256i entries[HALVES],
                                 const operand_rows *operands, int32_t quad, sums *sum) {
  for (int r = 0; r < rows; r++) {
    const __m256i operand = _mm256_set1_epi32(operands->even[r][quad]);
    for (int i = 0; i < HALVES; i++)
      sum->lanes[r][i] = is_values ? DOT_QUADS(sum->lanes[r][i], operand, entries[i])
                                   : DOT_QUADS(sum->lanes[r][i], entries[i], operand);
  }
}

TARGET_INLINE void add_wide(int32_t rows, const __m256i entries[HALVES],
                            const operand_rows *operands, int32_t quad, sums *sum) {
  __m256i even[HALVES], odd[HALVES];
  for (int i = 0; i < HALVES; i++) {
    even[i] = _mm256_slli_epi16(entries[i], 8);
    odd[i] = _mm256_and_si256(entries[i], _mm256_set1_epi16((short)0xff00));
  }
  for (int r = 0; r < rows; r++) {
    const __m256i first = _mm256_set1_epi32(operands->even[r][quad]),
                  second = _mm256_set1_epi32(operands->odd[r][quad]);
    for (int i = 0; i < HALVES; i++) {
      sum->lanes[r][i] = _mm256_add_epi32(sum->lanes[r][i], _mm256_madd_epi16(even[i], first));
      sum->lanes[r][i] = _mm256_add_epi32(sum->lanes[r][i], _mm256_madd_epi16(odd[i], second));
    }
  }
}

TARGET_INLINE void add_narrow(bool is_values, int32_t rows, const __m256i entries[HALVES],
                              const operand_rows *operands, int32_t quad, sums *sum) {
  for (int r = 0; r < rows; r++) {
    const __m256i operand = _mm256_set1_epi32(operands->even[r][quad]);
    for (int i = 0; i < HALVES; i++)
      sum->lanes[r][i] =
          _mm256_add_epi16(sum->lanes[r][i], is_values ? _mm256_maddubs_epi16(operand, entries[i])
                                                       : _mm256_maddubs_epi16(entries[i], operand));
  }
}

TARGET_INLINE void add_products(bool is_values, bool is_narrow, int32_t rows,
                                const __m256i entries[HALVES], const operand_rows *operands,
                                int32_t quad, sums *sum) {
  if (HAS_DOT_QUADS)
    add_dot_quads(is_values, rows, entries, operands, quad, sum);
  else if (is_narrow)
    add_narrow(is_values, rows, entries, operands, quad, sum);
  else
    add_wide(rows, entries, operands, quad, sum);
}

// Adds sums to the rows' results, which are `stride` apart; those of half tiles are `gap` apart.
TARGET_INLINE void add_to_results(bool is_narrow, int32_t rows, const sums *sum, __m256i step,
                                  int32_t *out, int32_t stride, int32_t gap) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < HALVES; i++) {
      int32_t *at = out + r * stride + i * gap;
      const __m256i x = HAS_DOT_QUADS ? sum->lanes[r][i]
                        : is_narrow   ? _mm256_madd_epi16(sum->lanes[r][i], step)
                                      : _mm256_srai_epi32(sum->lanes[r][i], 8);
      store_bytes(at, _mm256_add_epi32(load_bytes(at), x));
    }
}
