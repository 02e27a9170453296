// Encoding and 16-bit floats, for the files of this folder, which say what TARGET is.

// Registers of eight chains.
enum { CHAIN_PARTS = NIBBLE_CHAINS / 8 };

// (d * d + 2^14) >> 15 of signed numbers. The instruction saturates the largest of all, that of
// -2^15, to one less.
TARGET_INLINE uint16x8_t half_squares(int16x8_t d) {
  const uint16x8_t is_lowest = vceqq_s16(d, vdupq_n_s16(INT16_MIN));
  return vsubq_u16(vreinterpretq_u16_s16(vqrdmulhq_s16(d, d)), is_lowest);
}

// `bits` is a constant where this is inlined.
TARGET_INLINE void search_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                               const uint16_t (*old)[NIBBLE_CHAINS],
                               uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  const int32_t states = 256 >> bits;
  int16x8_t x[CHAIN_PARTS];
  uint16x8_t least[CHAIN_PARTS];
  for (int i = 0; i < CHAIN_PARTS; i++) {
    x[i] = vld1q_s16(samples + i * 8);
    least[i] = vdupq_n_u16(UINT16_MAX);
  }
  for (int32_t s = 0; s < states; s++) {
    uint16x8_t best[CHAIN_PARTS], tops[CHAIN_PARTS];
    for (int i = 0; i < CHAIN_PARTS; i++) {
      best[i] = vdupq_n_u16(UINT16_MAX);
      tops[i] = vdupq_n_u16(0);
    }
    for (int32_t top = 0; top < 1 << bits; top++) {
      const int32_t window = top << (8 - bits) | s;
      const int16x8_t entry = vdupq_n_s16(entries[window][0]);
      const uint16_t *before = old[window >> bits];
      for (int i = 0; i < CHAIN_PARTS; i++) {
        const uint16x8_t cost =
            vqaddq_u16(vld1q_u16(before + i * 8), half_squares(vqsubq_s16(x[i], entry)));
        tops[i] = vbslq_u16(vcltq_u16(cost, best[i]), vdupq_n_u16((uint16_t)top), tops[i]);
        best[i] = vminq_u16(best[i], cost);
      }
    }
    for (int i = 0; i < CHAIN_PARTS; i++) {
      vst1q_u16(fresh[s] + i * 8, best[i]);
      vst1_u8(from[s] + i * 8, vmovn_u16(tops[i]));
      least[i] = vminq_u16(least[i], best[i]);
    }
  }
  for (int32_t s = 0; s < states; s++)
    for (int i = 0; i < CHAIN_PARTS; i++) {
      uint16_t *cost = fresh[s] + i * 8;
      vst1q_u16(cost, vsubq_u16(vld1q_u16(cost), least[i]));
    }
}

TARGET static void trellis_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                                const uint16_t (*old)[NIBBLE_CHAINS],
                                uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  switch (bits) {
  case 4: search_step(4, entries, samples, old, fresh, from); break;
  case 3: search_step(3, entries, samples, old, fresh, from); break;
  case 2: search_step(2, entries, samples, old, fresh, from); break;
  default: search_step(1, entries, samples, old, fresh, from);
  }
}

// Butterflies of two registers.
TARGET_INLINE void butterfly(float32x4_t *a, float32x4_t *b) {
  const float32x4_t sum = vaddq_f32(*a, *b), difference = vsubq_f32(*a, *b);
  *a = sum;
  *b = difference;
}

// The first four stages, within 16 values.
TARGET_INLINE void hadamard_sixteen(float *values, const float *signs) {
  float32x4_t x[4];
  for (int i = 0; i < 4; i++) x[i] = vmulq_f32(vld1q_f32(values + i * 4), vld1q_f32(signs + i * 4));
  for (int i = 0; i < 4; i += 2) {
    // Neighbours, apart and together again; then pairs of neighbours.
    float32x4_t a = vuzp1q_f32(x[i], x[i + 1]), b = vuzp2q_f32(x[i], x[i + 1]);
    butterfly(&a, &b);
    const float64x2_t c = vreinterpretq_f64_f32(vzip1q_f32(a, b)),
                      d = vreinterpretq_f64_f32(vzip2q_f32(a, b));
    a = vreinterpretq_f32_f64(vzip1q_f64(c, d));
    b = vreinterpretq_f32_f64(vzip2q_f64(c, d));
    butterfly(&a, &b);
    const float64x2_t e = vreinterpretq_f64_f32(a), f = vreinterpretq_f64_f32(b);
    x[i] = vreinterpretq_f32_f64(vzip1q_f64(e, f));
    x[i + 1] = vreinterpretq_f32_f64(vzip2q_f64(e, f));
    butterfly(&x[i], &x[i + 1]);
  }
  for (int i = 0; i < 2; i++) butterfly(&x[i], &x[i + 2]);
  for (int i = 0; i < 4; i++) vst1q_f32(values + i * 4, x[i]);
}

TARGET static void hadamard(float *values, int32_t count, const float *signs, float factor) {
  if (count < 16) {
    nibble_hadamard_floats(values, count, signs, factor);
    return;
  }
  for (int32_t i = 0; i < count; i += 16) hadamard_sixteen(values + i, signs + i);
  for (int32_t h = 16; h < count; h *= 2)
    for (int32_t i = 0; i < count; i += 2 * h)
      for (int32_t j = i; j < i + h; j += 4) {
        float32x4_t a = vld1q_f32(values + j), b = vld1q_f32(values + j + h);
        butterfly(&a, &b);
        vst1q_f32(values + j, a);
        vst1q_f32(values + j + h, b);
      }
  for (int32_t i = 0; i < count; i += 4)
    vst1q_f32(values + i, vmulq_n_f32(vld1q_f32(values + i), factor));
}

TARGET static void narrow_float16(const float *values, size_t count, uint16_t *result) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4)
    vst1_u16(result + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(values + i))));
  for (; i < count; i++) result[i] = nibble_to_float16(values[i]);
}

TARGET static void widen_float16(const uint16_t *values, size_t count, float *result) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4)
    vst1q_f32(result + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(values + i))));
  for (; i < count; i++) result[i] = nibble_from_float16(values[i]);
}
