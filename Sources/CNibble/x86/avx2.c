// AVX2 with FMA and F16C, for machines without AVX-512. Products are taken in sixteen bits, so that
// no sum saturates.
#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "../float_parts.h"

#define TARGET __attribute__((target("avx2,fma,f16c")))
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET

bool nibble_avx2_runs(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

#include "avx2_encode.h"
#include "avx2_expand.h"
#include "avx2_kernels.h"
#include "avx2_rows.h"

#define KERNEL_TABLE nibble_avx2_kernels
#define KERNEL_NAME "avx2"
#include "../kernel_table.h"

#endif
