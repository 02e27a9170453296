// Exact rows, for the files of this folder, which say what TARGET is.

TARGET_INLINE float32x4_t load_floats(int32_t kind, const uint8_t *bytes) {
  if (kind == NIBBLE_FLOAT32) return vreinterpretq_f32_u8(vld1q_u8(bytes));
  const uint16x4_t x = vreinterpret_u16_u8(vld1_u8(bytes));
  if (kind == NIBBLE_FLOAT16) return vcvt_f32_f16(vreinterpret_f16_u16(x));
  return vreinterpretq_f32_u32(vshll_n_u16(x, 16));
}

// The rows of a block and what they are multiplied by: keys are rows of tokens, one a channel;
// values are rows of channels, one a token.
typedef struct {
  const uint8_t *codes;
  size_t row_bytes;
  int32_t count;
  const float *factors;
  size_t stride;  // of the factors
  bool is_added;  // to what the result holds
  int32_t width;  // of the results, and how far they are apart
  nibble_feed *feed;
} row_block;

// Sixteen lanes from `lane` on, for `rows` (at most 4) rows of factors from `row` on.
TARGET_INLINE void add_row_lanes(int32_t kind, int32_t rows, const row_block *block, int32_t row,
                                 int32_t lane, float *result) {
  const int32_t width = nibble_element_bytes(kind);
  const uint8_t *codes = block->codes + (size_t)(lane * width);
  const float *factors = block->factors + (size_t)row * block->stride;
  result += row * block->width + lane;
  float32x4_t sum[4][4];
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 4; i++)
      sum[r][i] = block->is_added ? vld1q_f32(result + r * block->width + i * 4) : vdupq_n_f32(0);
  for (int32_t k = 0; k < block->count; k++, codes += block->row_bytes) {
    if (width == 4 || k % 2 == 0) nibble_fetch(block->feed, 1);
    for (int i = 0; i < 4; i++) {
      const float32x4_t x = load_floats(kind, codes + i * 4 * width);
      for (int r = 0; r < rows; r++)
        sum[r][i] = vfmaq_n_f32(sum[r][i], x, factors[(size_t)r * block->stride + (size_t)k]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 4; i++) vst1q_f32(result + r * block->width + i * 4, sum[r][i]);
}

TARGET_INLINE void add_rows(int32_t kind, const row_block *block, int32_t lanes, int32_t rows,
                            float *result) {
  for (int32_t lane = 0; lane < lanes; lane += 16) {
    int32_t row = 0;
    for (; row + 4 <= rows; row += 4) add_row_lanes(kind, 4, block, row, lane, result);
    for (; row + 2 <= rows; row += 2) add_row_lanes(kind, 2, block, row, lane, result);
    if (row < rows) add_row_lanes(kind, 1, block, row, lane, result);
  }
}

#define ROW_KERNELS(name, kind)                                                                    \
  TARGET static void dot_##name(const void *codes, int32_t block_tokens, int32_t channels,         \
                                const float *queries, size_t stride, int32_t rows, float *scores,  \
                                nibble_feed *feed) {                                               \
    const row_block block = {.codes = codes,                                                       \
                             .row_bytes = (size_t)(block_tokens * nibble_element_bytes(kind)),     \
                             .count = channels,                                                    \
                             .factors = queries,                                                   \
                             .stride = stride,                                                     \
                             .width = NIBBLE_MAX_BLOCK_TOKENS,                                     \
                             .feed = feed};                                                        \
    add_rows(kind, &block, block_tokens, rows, scores);                                            \
  }                                                                                                \
  TARGET static void weigh_##name(const void *codes, int32_t block_tokens,                         \
                                  int32_t padded_channels, const float *weights, int32_t rows,     \
                                  float *accumulators, nibble_feed *feed) {                        \
    const row_block block = {.codes = codes,                                                       \
                             .row_bytes = (size_t)(padded_channels * nibble_element_bytes(kind)),  \
                             .count = block_tokens,                                                \
                             .factors = weights,                                                   \
                             .stride = NIBBLE_MAX_BLOCK_TOKENS,                                    \
                             .is_added = true,                                                     \
                             .width = padded_channels,                                             \
                             .feed = feed};                                                        \
    add_rows(kind, &block, padded_channels, rows, accumulators);                                   \
  }
ROW_KERNELS(float32, NIBBLE_FLOAT32)
ROW_KERNELS(float16, NIBBLE_FLOAT16)
ROW_KERNELS(bfloat16, NIBBLE_BFLOAT16)
