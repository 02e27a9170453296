// NEON with the matrix products of Armv8.6 (smmla, usmmla): 32 products by one instruction, for two
// rows at once; and with dot products of unsigned weights with signed entries (usdot).
#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#include "../float_parts.h"
#include "features.h"

#define TARGET __attribute__((target("dotprod,i8mm")))
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET

bool nibble_i8mm_runs(void) { return nibble_arm_has_dotprod() && nibble_arm_has_i8mm(); }

#include "neon_expand.h"
#include "signed_dot.h"

// ---- Sums of products

enum { ROWS = 4, VALUE_FLIP = 0 };

// Of one register of entries: two parts for each pair of rows, with two lanes of either row each;
// one for a row without a partner.
typedef struct {
  int32x4_t part[4];
} sums;

// Signed entries with unsigned operands.
TARGET_INLINE int32x4_t add_mixed_quad(int32x4_t sum, uint8x16_t entries, uint8x8_t operands,
                                       int quad) {
  const int8x16_t x = vreinterpretq_s8_u8(entries);
  return quad == 0 ? vsudotq_lane_s32(sum, x, operands, 0) : vsudotq_lane_s32(sum, x, operands, 1);
}

TARGET_INLINE int32x4_t add_pair(bool is_values, int32x4_t sum, uint8x16_t operands,
                                 int8x16_t entries) {
  return is_values ? vusmmlaq_s32(sum, operands, entries)
                   : vmmlaq_s32(sum, vreinterpretq_s8_u8(operands), entries);
}

TARGET_INLINE void add_quads(bool is_values, int32_t rows, const uint8x16_t quads[2],
                             const uint8x8_t operands[ROWS], sums *sum) {
  const uint32x4_t a = vreinterpretq_u32_u8(quads[0]), b = vreinterpretq_u32_u8(quads[1]);
  // Both quads of a lane side by side, two lanes a register.
  const int8x16_t low = vreinterpretq_s8_u32(vzip1q_u32(a, b)),
                  high = vreinterpretq_s8_u32(vzip2q_u32(a, b));
  for (int r = 0; r + 2 <= rows; r += 2) {
    const uint8x16_t both = vcombine_u8(operands[r], operands[r + 1]);
    sum->part[r] = add_pair(is_values, sum->part[r], both, low);
    sum->part[r + 1] = add_pair(is_values, sum->part[r + 1], both, high);
  }
  if (rows % 2 == 0) return;
  int32x4_t *last = &sum->part[rows - 1];
  for (int i = 0; i < 2; i++)
    *last = is_values ? add_mixed_quad(*last, quads[i], operands[rows - 1], i)
                      : add_signed_quad(*last, quads[i], operands[rows - 1], i);
}

TARGET_INLINE int32x4_t sums_of_row(bool is_values, int32_t rows, const sums *sum, int r) {
  (void)is_values;
  if (rows % 2 == 1 && r == rows - 1) return sum->part[r];
  const int64x2_t low = vreinterpretq_s64_s32(sum->part[r & ~1]),
                  high = vreinterpretq_s64_s32(sum->part[r | 1]);
  return vreinterpretq_s32_s64(r % 2 == 0 ? vzip1q_s64(low, high) : vzip2q_s64(low, high));
}

#include "neon_encode.h"
#include "neon_kernels.h"
#include "neon_rows.h"

#define KERNEL_TABLE nibble_i8mm_kernels
#define KERNEL_NAME "i8mm"
#include "../kernel_table.h"

#endif
