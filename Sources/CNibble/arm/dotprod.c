// NEON with the dot products of Armv8.2 (sdot, udot): sixteen products by one instruction.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#include "../float_parts.h"
#include "features.h"

#define TARGET __attribute__((target("dotprod")))
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET

bool nibble_dotprod_runs(void) { return nibble_arm_has_dotprod(); }

#include "neon_expand.h"
#include "signed_dot.h"

// ---- Sums of products

// Both factors of a product of values are unsigned.
enum { ROWS = 4, VALUE_FLIP = 0x80 };

// Of one register of entries, a part for each row.
typedef struct {
  int32x4_t part[4];
} sums;

TARGET_INLINE int32x4_t add_unsigned_quad(int32x4_t sum, uint8x16_t entries, uint8x8_t operands,
                                          int quad) {
  const uint32x4_t s = vreinterpretq_u32_s32(sum);
  return vreinterpretq_s32_u32(quad == 0 ? vdotq_lane_u32(s, entries, operands, 0)
                                         : vdotq_lane_u32(s, entries, operands, 1));
}

TARGET_INLINE void add_quads(bool is_values, int32_t rows, const uint8x16_t quads[2],
                             const uint8x8_t operands[ROWS], sums *sum) {
  for (int i = 0; i < 2; i++)
    for (int r = 0; r < rows; r++)
      sum->part[r] = is_values ? add_unsigned_quad(sum->part[r], quads[i], operands[r], i)
                               : add_signed_quad(sum->part[r], quads[i], operands[r], i);
}

TARGET_INLINE int32x4_t sums_of_row(bool is_values, int32_t rows, const sums *sum, int r) {
  (void)is_values;
  (void)rows;
  return sum->part[r];
}

#include "neon_encode.h"
#include "neon_kernels.h"
#include "neon_rows.h"

#define KERNEL_TABLE nibble_dotprod_kernels
#define KERNEL_NAME "dotprod"
#include "../kernel_table.h"

#endif
