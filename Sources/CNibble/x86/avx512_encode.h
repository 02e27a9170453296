// Encoding and 16-bit floats, for avx512.c, which says what TARGET is.

// `bits` is a constant where this is inlined.
TARGET_INLINE void search_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                               const uint16_t (*old)[NIBBLE_CHAINS],
                               uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  const int32_t states = 256 >> bits;
  const __m512i x = _mm512_loadu_si512(samples);
  __m512i least = _mm512_set1_epi8(-1);
  for (int32_t s = 0; s < states; s++) {
    __m512i best = _mm512_set1_epi8(-1), tops = _mm512_setzero_si512();
    for (int32_t top = 0; top < 1 << bits; top++) {
      const int32_t window = top << (8 - bits) | s;
      const __m512i d = _mm512_subs_epi16(x, _mm512_set1_epi32(load_quad(entries[window])));
      const __m512i cost =
          _mm512_adds_epu16(_mm512_loadu_si512(old[window >> bits]), _mm512_mulhrs_epi16(d, d));
      tops = _mm512_mask_mov_epi16(tops, _mm512_cmplt_epu16_mask(cost, best),
                                   _mm512_set1_epi16((int16_t)top));
      best = _mm512_min_epu16(best, cost);
    }
    _mm512_storeu_si512(fresh[s], best);
    _mm256_storeu_si256((__m256i *)(void *)from[s], _mm512_cvtepi16_epi8(tops));
    least = _mm512_min_epu16(least, best);
  }
  for (int32_t s = 0; s < states; s++)
    _mm512_storeu_si512(fresh[s], _mm512_sub_epi16(_mm512_loadu_si512(fresh[s]), least));
}

TARGET static void trellis_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                                const uint16_t (*old)[NIBBLE_CHAINS],
                                uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  if (bits == 4)
    search_step(4, entries, samples, old, fresh, from);
  else if (bits == 3)
    search_step(3, entries, samples, old, fresh, from);
  else if (bits == 2)
    search_step(2, entries, samples, old, fresh, from);
  else
    search_step(1, entries, samples, old, fresh, from);
}

// One butterfly stage inside a register: sign * x + (x with neighbours at distance h exchanged).
TARGET_INLINE __m512 stage(__m512 x, __m512 exchanged, unsigned negative) {
  return _mm512_mask_sub_ps(_mm512_add_ps(x, exchanged), (__mmask16)negative, exchanged, x);
}

// All stages of 16 * `count` values (`count` at most 8, a constant where this is inlined).
TARGET_INLINE void hadamard_registers(int32_t count, float *values, const float *signs,
                                      float factor) {
  __m512 x[8];
  for (int i = 0; i < count; i++) {
    x[i] = _mm512_mul_ps(_mm512_loadu_ps(values + i * 16), _mm512_loadu_ps(signs + i * 16));
    x[i] = stage(x[i], _mm512_permute_ps(x[i], 0xb1), 0xaaaa);
    x[i] = stage(x[i], _mm512_permute_ps(x[i], 0x4e), 0xcccc);
    x[i] = stage(x[i], _mm512_shuffle_f32x4(x[i], x[i], 0xb1), 0xf0f0);
    x[i] = stage(x[i], _mm512_shuffle_f32x4(x[i], x[i], 0x4e), 0xff00);
  }
  for (int h = 1; h < count; h *= 2)
    for (int i = 0; i < count; i += 2 * h)
      for (int j = i; j < i + h; j++) {
        const __m512 a = x[j], b = x[j + h];
        x[j] = _mm512_add_ps(a, b);
        x[j + h] = _mm512_sub_ps(a, b);
      }
  for (int i = 0; i < count; i++)
    _mm512_storeu_ps(values + i * 16, _mm512_mul_ps(x[i], _mm512_set1_ps(factor)));
}

TARGET static void hadamard(float *values, int32_t count, const float *signs, float factor) {
  if (count == 128) {
    hadamard_registers(8, values, signs, factor);
  } else if (count == 64) {
    hadamard_registers(4, values, signs, factor);
  } else if (count == 32) {
    hadamard_registers(2, values, signs, factor);
  } else if (count == 16) {
    hadamard_registers(1, values, signs, factor);
  } else if (count < 16) {
    nibble_hadamard_floats(values, count, signs, factor);
  } else {
    for (int32_t i = 0; i < count; i += 128) hadamard_registers(8, values + i, signs + i, 1);
    for (int32_t h = 128; h < count; h *= 2)
      for (int32_t i = 0; i < count; i += 2 * h)
        for (int32_t j = i; j < i + h; j += 16) {
          const __m512 a = _mm512_loadu_ps(values + j), b = _mm512_loadu_ps(values + j + h);
          _mm512_storeu_ps(values + j, _mm512_add_ps(a, b));
          _mm512_storeu_ps(values + j + h, _mm512_sub_ps(a, b));
        }
    for (int32_t i = 0; i < count; i += 16)
      _mm512_storeu_ps(values + i,
                       _mm512_mul_ps(_mm512_loadu_ps(values + i), _mm512_set1_ps(factor)));
  }
}

// As nibble_nearest_codes: the thresholds below a value are counted by bisection.
TARGET static void nearest_entries(const float *values, size_t count, float inverse_scale,
                                   const float *thresholds, int32_t levels, uint8_t *codes) {
  float padded[16];
  for (int32_t k = 0; k < 16; k++) padded[k] = k + 1 < levels ? thresholds[k] : INFINITY;
  const __m512 ordered = _mm512_loadu_ps(padded), inverse = _mm512_set1_ps(inverse_scale);
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(values + i), inverse);
    __m512i below = _mm512_setzero_si512();
    for (int step = 8; step > 0; step /= 2) {
      const __m512i probe = _mm512_add_epi32(below, _mm512_set1_epi32(step - 1));
      const __mmask16 is_above =
          _mm512_cmp_ps_mask(x, _mm512_permutexvar_ps(probe, ordered), _CMP_GT_OQ);
      below = _mm512_mask_add_epi32(below, is_above, below, _mm512_set1_epi32(step));
    }
    _mm_storeu_si128((__m128i *)(void *)(codes + i), _mm512_cvtepi32_epi8(below));
  }
  nibble_nearest_codes(values + i, count - i, inverse_scale, thresholds, levels, codes + i);
}

TARGET static void narrow_float16(const float *values, size_t count, uint16_t *result) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16)
    _mm256_storeu_si256((__m256i *)(void *)(result + i),
                        _mm512_cvtps_ph(_mm512_loadu_ps(values + i),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  for (; i < count; i++) result[i] = nibble_to_float16(values[i]);
}

TARGET static void widen_float16(const uint16_t *values, size_t count, float *result) {
  size_t i = 0;
  for (; i + 16 <= count; i += 16)
    _mm512_storeu_ps(result + i, _mm512_cvtph_ps(_mm256_loadu_si256(
                                     (const __m256i *)(const void *)(values + i))));
  for (; i < count; i++) result[i] = nibble_from_float16(values[i]);
}
