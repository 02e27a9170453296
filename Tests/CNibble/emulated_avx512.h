// The AVX-512 instructions that x86/avx512.c uses, in plain C after Intel's pseudocode: the kernels
// are tested with them on machines that lack them (NIBBLE_EMULATED_AVX512 names this file). Slow.
#ifndef NIBBLE_EMULATED_AVX512_H
#define NIBBLE_EMULATED_AVX512_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float __m512 __attribute__((ext_vector_type(16)));
typedef int64_t __m512i __attribute__((ext_vector_type(8)));
typedef int64_t __m256i __attribute__((ext_vector_type(4)));
typedef int64_t __m128i __attribute__((ext_vector_type(2)));
typedef uint16_t __mmask16;
typedef uint32_t __mmask32;
typedef uint64_t __mmask64;

#define EMULATED static inline __attribute__((always_inline, unused))
#define EMULATED_VECTOR(name, element, count)                                                      \
  typedef element name __attribute__((ext_vector_type(count)))
EMULATED_VECTOR(emulated_u8, uint8_t, 64);
EMULATED_VECTOR(emulated_i8, int8_t, 64);
EMULATED_VECTOR(emulated_u16, uint16_t, 32);
EMULATED_VECTOR(emulated_i16, int16_t, 32);
EMULATED_VECTOR(emulated_u32, uint32_t, 16);
EMULATED_VECTOR(emulated_i32, int32_t, 16);

enum { _CMP_GT_OQ = 30 };
enum { _MM_HINT_T0, _MM_FROUND_TO_NEAREST_INT = 0, _MM_FROUND_NO_EXC = 8 };
#define _mm_prefetch(address, hint) __builtin_prefetch(address)

// ---- Memory

#define EMULATED_MEMORY(load, store, type)                                                         \
  EMULATED type load(const void *memory) {                                                         \
    type x;                                                                                        \
    memcpy(&x, memory, sizeof x);                                                                  \
    return x;                                                                                      \
  }                                                                                                \
  EMULATED void store(void *memory, type x) { memcpy(memory, &x, sizeof x); }
EMULATED_MEMORY(_mm512_loadu_si512, _mm512_storeu_si512, __m512i)
EMULATED_MEMORY(_mm512_loadu_ps, _mm512_storeu_ps, __m512)
EMULATED_MEMORY(_mm256_loadu_si256, _mm256_storeu_si256, __m256i)
EMULATED_MEMORY(_mm_loadu_si128, _mm_storeu_si128, __m128i)

#define EMULATED_CONSTANT(name, type, element, vector)                                             \
  EMULATED type name(element x) { return (type)((vector)(0) + (vector)(x)); }
EMULATED_CONSTANT(_mm512_set1_epi8, __m512i, char, emulated_u8)
EMULATED_CONSTANT(_mm512_set1_epi16, __m512i, int16_t, emulated_i16)
EMULATED_CONSTANT(_mm512_set1_epi32, __m512i, int32_t, emulated_i32)
EMULATED_CONSTANT(_mm512_set1_epi64, __m512i, int64_t, __m512i)
EMULATED_CONSTANT(_mm512_set1_ps, __m512, float, __m512)
EMULATED __m512i _mm512_setzero_si512(void) { return (__m512i)(0); }
EMULATED __m512 _mm512_setzero_ps(void) { return (__m512)(0); }

// ---- Element by element

EMULATED __m512i _mm512_and_si512(__m512i a, __m512i b) { return a & b; }
EMULATED __m512i _mm512_or_si512(__m512i a, __m512i b) { return a | b; }
EMULATED __m512i _mm512_xor_si512(__m512i a, __m512i b) { return a ^ b; }

EMULATED __m512i _mm512_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table) {
  __m512i result = (__m512i)(0);
  for (int i = 0; i < 8; i++)
    if (table >> i & 1) result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return result;
}

EMULATED __m512i _mm512_slli_epi16(__m512i x, unsigned n) {
  return (__m512i)((emulated_u16)x << (uint16_t)n);
}
EMULATED __m512i _mm512_srli_epi16(__m512i x, unsigned n) {
  return (__m512i)((emulated_u16)x >> (uint16_t)n);
}
EMULATED __m512i _mm512_slli_epi32(__m512i x, unsigned n) {
  return (__m512i)((emulated_u32)x << (uint32_t)n);
}
EMULATED __m512i _mm512_abs_epi8(__m512i x) {
  const emulated_i8 bytes = (emulated_i8)x;
  return (__m512i)(bytes < 0 ? (emulated_i8)(0) - bytes : bytes);
}
EMULATED __m512i _mm512_add_epi8(__m512i a, __m512i b) {
  return (__m512i)((emulated_u8)a + (emulated_u8)b);
}
EMULATED __m512i _mm512_add_epi32(__m512i a, __m512i b) {
  return (__m512i)((emulated_u32)a + (emulated_u32)b);
}
EMULATED __m512i _mm512_sub_epi16(__m512i a, __m512i b) {
  return (__m512i)((emulated_u16)a - (emulated_u16)b);
}
EMULATED __m512i _mm512_subs_epi16(__m512i a, __m512i b) {
  return (__m512i)__builtin_elementwise_sub_sat((emulated_i16)a, (emulated_i16)b);
}
EMULATED __m512i _mm512_adds_epu16(__m512i a, __m512i b) {
  return (__m512i)__builtin_elementwise_add_sat((emulated_u16)a, (emulated_u16)b);
}
EMULATED __m512i _mm512_min_epu16(__m512i a, __m512i b) {
  return (__m512i)__builtin_elementwise_min((emulated_u16)a, (emulated_u16)b);
}

EMULATED __m512i _mm512_mulhrs_epi16(__m512i a, __m512i b) {
  emulated_i16 x = (emulated_i16)a, y = (emulated_i16)b;
  for (int i = 0; i < 32; i++) x[i] = (int16_t)((((int32_t)x[i] * y[i] >> 14) + 1) >> 1);
  return (__m512i)x;
}

EMULATED __m512i _mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
  const emulated_u8 x = (emulated_u8)a;
  const emulated_i8 y = (emulated_i8)b;
  emulated_i32 result = (emulated_i32)sum;
  for (int i = 0; i < 64; i++) result[i / 4] += x[i] * y[i];
  return (__m512i)result;
}

// Each byte times a matrix of bits: row 7 - i, of the byte's 64 bits, makes bit i.
EMULATED __m512i _mm512_gf2p8affine_epi64_epi8(__m512i x, __m512i matrix, int constant) {
  emulated_u8 bytes = (emulated_u8)x;
  const emulated_u8 rows = (emulated_u8)matrix;
  for (int i = 0; i < 64; i++) {
    int result = constant;
    for (int bit = 0; bit < 8; bit++)
      result ^= (__builtin_popcount(rows[i / 8 * 8 + 7 - bit] & bytes[i]) & 1) << bit;
    bytes[i] = (uint8_t)result;
  }
  return (__m512i)bytes;
}

EMULATED __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
EMULATED __m512 _mm512_sub_ps(__m512 a, __m512 b) { return a - b; }
EMULATED __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  for (int i = 0; i < 16; i++) c[i] = fmaf(a[i], b[i], c[i]);
  return c;
}

// ---- Masks

EMULATED __mmask64 _mm512_movepi8_mask(__m512i x) {
  const emulated_u8 bytes = (emulated_u8)x;
  __mmask64 mask = 0;
  for (int i = 0; i < 64; i++) mask |= (__mmask64)(bytes[i] >> 7) << i;
  return mask;
}
EMULATED __mmask32 _mm512_cmplt_epu16_mask(__m512i a, __m512i b) {
  const emulated_u16 x = (emulated_u16)a, y = (emulated_u16)b;
  __mmask32 mask = 0;
  for (int i = 0; i < 32; i++) mask |= (__mmask32)(x[i] < y[i]) << i;
  return mask;
}
EMULATED __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int order) {
  (void)order;  // greater
  __mmask16 mask = 0;
  for (int i = 0; i < 16; i++) mask |= (__mmask16)((a[i] > b[i]) << i);
  return mask;
}
EMULATED __m512i _mm512_mask_add_epi32(__m512i old, __mmask16 mask, __m512i a, __m512i b) {
  emulated_u32 result = (emulated_u32)old;
  const emulated_u32 x = (emulated_u32)a, y = (emulated_u32)b;
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) result[i] = x[i] + y[i];
  return (__m512i)result;
}
EMULATED __m512i _mm512_mask_mov_epi8(__m512i old, __mmask64 mask, __m512i a) {
  emulated_u8 result = (emulated_u8)old;
  const emulated_u8 x = (emulated_u8)a;
  for (int i = 0; i < 64; i++)
    if (mask >> i & 1) result[i] = x[i];
  return (__m512i)result;
}
EMULATED __m512i _mm512_mask_sub_epi8(__m512i old, __mmask64 mask, __m512i a, __m512i b) {
  return _mm512_mask_mov_epi8(old, mask, (__m512i)((emulated_u8)a - (emulated_u8)b));
}
EMULATED __m512i _mm512_mask_mov_epi16(__m512i old, __mmask32 mask, __m512i a) {
  emulated_u16 result = (emulated_u16)old;
  const emulated_u16 x = (emulated_u16)a;
  for (int i = 0; i < 32; i++)
    if (mask >> i & 1) result[i] = x[i];
  return (__m512i)result;
}
EMULATED __m512 _mm512_mask_sub_ps(__m512 old, __mmask16 mask, __m512 a, __m512 b) {
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) old[i] = a[i] - b[i];
  return old;
}

// ---- Across elements

EMULATED __m128i _mm_unpacklo_epi64(__m128i a, __m128i b) { return (__m128i){a.x, b.x}; }
EMULATED __m128i _mm_shuffle_epi32(__m128i x, int order) {
  EMULATED_VECTOR(words, uint32_t, 4);
  const words from = (words)x;
  words result;
  for (int i = 0; i < 4; i++) result[i] = from[order >> 2 * i & 3];
  return (__m128i)result;
}
EMULATED __m512i _mm512_broadcast_i32x4(__m128i x) { return x.xyxyxyxy; }

EMULATED __m512i _mm512_permutexvar_epi8(__m512i a, __m512i b) {
  const emulated_u8 x = (emulated_u8)b;
  emulated_u8 index = (emulated_u8)a;
  for (int i = 0; i < 64; i++) index[i] = x[index[i] & 63];
  return (__m512i)index;
}
EMULATED __m512i _mm512_permutex2var_epi8(__m512i a, __m512i b, __m512i c) {
  const emulated_u8 x = (emulated_u8)a, y = (emulated_u8)c;
  emulated_u8 index = (emulated_u8)b;
  for (int i = 0; i < 64; i++) index[i] = index[i] & 64 ? y[index[i] & 63] : x[index[i] & 63];
  return (__m512i)index;
}
// Eight bits of the same quarter of a lane, from the bit that each byte of the first operand names.
EMULATED __m512i _mm512_multishift_epi64_epi8(__m512i from, __m512i x) {
  emulated_u8 bits = (emulated_u8)from;
  for (int i = 0; i < 64; i++) {
    const uint64_t word = (uint64_t)x[i / 8];
    const int first = bits[i] & 63;
    bits[i] = (uint8_t)(first ? word >> first | word << (64 - first) : word);
  }
  return (__m512i)bits;
}
EMULATED __m512 _mm512_permutexvar_ps(__m512i index, __m512 x) {
  const emulated_u32 from = (emulated_u32)index;
  __m512 result;
  for (int i = 0; i < 16; i++) result[i] = x[from[i] & 15];
  return result;
}
EMULATED __m512 _mm512_permute_ps(__m512 x, int order) {
  __m512 result;
  for (int i = 0; i < 16; i++) result[i] = x[i / 4 * 4 + (order >> i % 4 * 2 & 3)];
  return result;
}
EMULATED __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int order) {
  __m512 result;
  for (int i = 0; i < 16; i++) result[i] = (i < 8 ? a : b)[(order >> i / 4 * 2 & 3) * 4 + i % 4];
  return result;
}

// ---- Conversions

EMULATED __m512 _mm512_castsi512_ps(__m512i x) { return (__m512)x; }
EMULATED __m256i _mm512_cvtepi16_epi8(__m512i x) {
  typedef uint8_t bytes __attribute__((ext_vector_type(32)));
  return (__m256i) __builtin_convertvector((emulated_u16)x, bytes);
}
EMULATED __m128i _mm512_cvtepi32_epi8(__m512i x) {
  typedef uint8_t bytes __attribute__((ext_vector_type(16)));
  return (__m128i) __builtin_convertvector((emulated_u32)x, bytes);
}
EMULATED __m512i _mm512_cvtepu16_epi32(__m256i x) {
  typedef uint16_t halves __attribute__((ext_vector_type(16)));
  return (__m512i) __builtin_convertvector((halves)x, emulated_u32);
}
EMULATED __m512 _mm512_cvtph_ps(__m256i x) {
  uint16_t halves[16];
  memcpy(halves, &x, sizeof halves);
  __m512 result;
  for (int i = 0; i < 16; i++) result[i] = nibble_from_float16(halves[i]);
  return result;
}
EMULATED __m256i _mm512_cvtps_ph(__m512 x, int rounding) {
  (void)rounding;
  uint16_t halves[16];
  for (int i = 0; i < 16; i++) halves[i] = nibble_to_float16(x[i]);
  __m256i result;
  memcpy(&result, halves, sizeof result);
  return result;
}

#endif
