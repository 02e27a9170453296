// AVX-VNNI: the dot products of AVX-512 on 256 bits, for machines that have no more. The kernels
// are those of AVX2 but for the products.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "../float_parts.h"

// NIBBLE_EMULATED_AVXVNNI names a header that stands in for the instruction, so that these kernels
// are tested on machines that lack it.
#if defined(NIBBLE_EMULATED_AVXVNNI)
#include NIBBLE_EMULATED_AVXVNNI
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define HAS_VNNI true
#else
#define TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))
#define HAS_VNNI __builtin_cpu_supports("avxvnni")
#endif
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET
#define DOT_QUADS _mm256_dpbusd_avx_epi32

bool nibble_avxvnni_runs(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && HAS_VNNI;
}

#include "avx2_encode.h"
#include "avx2_expand.h"
#include "avx2_kernels.h"
#include "avx2_rows.h"

#define KERNEL_TABLE nibble_avxvnni_kernels
#define KERNEL_NAME "avxvnni"
#include "../kernel_table.h"

#endif
