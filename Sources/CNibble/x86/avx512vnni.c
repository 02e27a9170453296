// The dot products of AVX-512 on 256 bits (VL, VNNI), for machines whose AVX-512 has no more: they
// lack the byte shuffles that avx512.c is made of. The kernels are those of AVX2 but for the
// products, as in avxvnni.c.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "../float_parts.h"

// NIBBLE_EMULATED_AVXVNNI: as in avxvnni.c.
#if defined(NIBBLE_EMULATED_AVXVNNI)
#include NIBBLE_EMULATED_AVXVNNI
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define HAS_VNNI true
#else
#define TARGET __attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512vnni")))
#define HAS_VNNI                                                                                   \
  (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&                      \
   __builtin_cpu_supports("avx512vnni"))
#endif
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET
#define DOT_QUADS _mm256_dpbusd_epi32

bool nibble_avx512vnni_runs(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && HAS_VNNI;
}

#include "avx2_encode.h"
#include "avx2_expand.h"
#include "avx2_kernels.h"
#include "avx2_rows.h"

#define KERNEL_TABLE nibble_avx512vnni_kernels
#define KERNEL_NAME "avx512vnni"
#include "../kernel_table.h"

#endif
