// NEON as every 64-bit Arm has it: sixteen look-ups by one tbl, products widened and added by
// pairs.
#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#include "../float_parts.h"

#define TARGET
#define TARGET_INLINE static inline __attribute__((always_inline)) TARGET

#include "neon_expand.h"

// ---- Sums of products

// Both factors of a product of values are unsigned.
enum { ROWS = 2, VALUE_FLIP = 0x80 };

// Of one register of entries, by rows: two parts each, for the lower and the upper half.
typedef struct {
  int32x4_t part[4];
} sums;

TARGET_INLINE void add_quads(bool is_values, int32_t rows, const uint8x16_t quads[2],
                             const uint8x8_t operands[ROWS], sums *sum) {
  for (int i = 0; i < 2; i++)
    for (int r = 0; r < rows; r++) {
      const uint32x2_t both = vreinterpret_u32_u8(operands[r]);
      const uint32x4_t four = i == 0 ? vdupq_lane_u32(both, 0) : vdupq_lane_u32(both, 1);
      const uint8x16_t operand = vreinterpretq_u8_u32(four);
      int32x4_t *low = &sum->part[2 * r], *high = &sum->part[2 * r + 1];
      if (is_values) {
        *low = vreinterpretq_s32_u32(vpadalq_u16(
            vreinterpretq_u32_s32(*low), vmull_u8(vget_low_u8(quads[i]), vget_low_u8(operand))));
        *high = vreinterpretq_s32_u32(
            vpadalq_u16(vreinterpretq_u32_s32(*high), vmull_high_u8(quads[i], operand)));
      } else {
        const int8x16_t entries = vreinterpretq_s8_u8(quads[i]),
                        query = vreinterpretq_s8_u8(operand);
        *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(entries), vget_low_s8(query)));
        *high = vpadalq_s16(*high, vmull_high_s8(entries, query));
      }
    }
}

TARGET_INLINE int32x4_t sums_of_row(bool is_values, int32_t rows, const sums *sum, int r) {
  (void)is_values;
  (void)rows;
  return vpaddq_s32(sum->part[2 * r], sum->part[2 * r + 1]);
}

#include "neon_encode.h"
#include "neon_kernels.h"
#include "neon_rows.h"

#define KERNEL_TABLE nibble_neon_kernels
#define KERNEL_NAME "neon"
#include "../kernel_table.h"

#endif
