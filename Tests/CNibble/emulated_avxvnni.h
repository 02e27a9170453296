// The dot product that x86/avxvnni.c and x86/avx512vnni.c use, in AVX2 after Intel's pseudocode:
// the kernels are tested with it on machines that lack it (NIBBLE_EMULATED_AVXVNNI names this
// file).
#ifndef NIBBLE_EMULATED_AVXVNNI_H
#define NIBBLE_EMULATED_AVXVNNI_H

#define EMULATED_DOT static inline __attribute__((always_inline, unused, target("avx2")))

// Even bytes, then odd ones, in sixteen bits: no sum saturates.
EMULATED_DOT __m256i emulated_dot_quads(__m256i sum, __m256i a, __m256i b) {
  const __m256i low = _mm256_set1_epi16(0xff);
  const __m256i even =
      _mm256_madd_epi16(_mm256_and_si256(a, low), _mm256_srai_epi16(_mm256_slli_epi16(b, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(a, 8), _mm256_srai_epi16(b, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

#undef _mm256_dpbusd_avx_epi32
#undef _mm256_dpbusd_epi32
#define _mm256_dpbusd_avx_epi32 emulated_dot_quads
#define _mm256_dpbusd_epi32 emulated_dot_quads

#endif
