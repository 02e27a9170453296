// Encoding and 16-bit floats, for files that say what TARGET is.

// ---- The search of the trellis codes

TARGET_INLINE void search_step(int32_t bits, const int16_t (*entries)[2], const int16_t *samples,
                               const uint16_t (*old)[NIBBLE_CHAINS],
                               uint16_t (*fresh)[NIBBLE_CHAINS], uint8_t (*from)[NIBBLE_CHAINS]) {
  const int32_t states = 256 >> bits;
  const __m256i *x = (const __m256i *)(const void *)samples;
  __m256i least[2] = {_mm256_set1_epi8(-1), _mm256_set1_epi8(-1)};
  for (int32_t s = 0; s < states; s++) {
    __m256i best[2] = {_mm256_set1_epi8(-1), _mm256_set1_epi8(-1)};
    __m256i tops[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int32_t top = 0; top < 1 << bits; top++) {
      const int32_t window = top << (8 - bits) | s;
      int32_t pair;
      memcpy(&pair, entries[window], sizeof pair);
      const __m256i entry = _mm256_set1_epi32(pair), mark = _mm256_set1_epi16((int16_t)top);
      const __m256i *before = (const __m256i *)(const void *)old[window >> bits];
      for (int i = 0; i < 2; i++) {
        const __m256i d = _mm256_subs_epi16(_mm256_loadu_si256(x + i), entry);
        const __m256i cost =
            _mm256_adds_epu16(_mm256_loadu_si256(before + i), _mm256_mulhrs_epi16(d, d));
        const __m256i least_cost = _mm256_min_epu16(best[i], cost);
        const __m256i kept = _mm256_cmpeq_epi16(least_cost, best[i]);
        tops[i] = _mm256_blendv_epi8(mark, tops[i], kept);
        best[i] = least_cost;
      }
    }
    for (int i = 0; i < 2; i++) {
      _mm256_storeu_si256((__m256i *)(void *)fresh[s] + i, best[i]);
      least[i] = _mm256_min_epu16(least[i], best[i]);
    }
    _mm256_storeu_si256((__m256i *)(void *)from[s],
                        _mm256_permute4x64_epi64(_mm256_packus_epi16(tops[0], tops[1]), 0xd8));
  }
  for (int32_t s = 0; s < states; s++)
    for (int i = 0; i < 2; i++) {
      __m256i *cost = (__m256i *)(void *)fresh[s] + i;
      _mm256_storeu_si256(cost, _mm256_sub_epi16(_mm256_loadu_si256(cost), least[i]));
    }
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

// ---- Encoding and 16-bit floats

TARGET static void hadamard(float *values, int32_t count, const float *signs, float factor) {
  nibble_hadamard_floats(values, count, signs, factor);
}

TARGET static void narrow_float16(const float *values, size_t count, uint16_t *result) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128((__m128i *)(void *)(result + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(values + i),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  for (; i < count; i++) result[i] = nibble_to_float16(values[i]);
}

TARGET static void widen_float16(const uint16_t *values, size_t count, float *result) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps(result + i,
                     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(values + i))));
  for (; i < count; i++) result[i] = nibble_from_float16(values[i]);
}
