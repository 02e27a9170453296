// The dot product of signed bytes (sdot), for the files of this folder, which say what TARGET is.

// Adds to each lane the products of its four bytes and of the quad of the operands that `quad` (0
// or 1, a constant where this is inlined) says.
TARGET_INLINE int32x4_t add_signed_quad(int32x4_t sum, uint8x16_t entries, uint8x8_t operands,
                                        int quad) {
  const int8x16_t x = vreinterpretq_s8_u8(entries);
  const int8x8_t y = vreinterpret_s8_u8(operands);
  return quad == 0 ? vdotq_lane_s32(sum, x, y, 0) : vdotq_lane_s32(sum, x, y, 1);
}
