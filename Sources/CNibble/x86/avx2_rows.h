// The kernels of attention over exact rows, for files that say what TARGET is.

TARGET_INLINE __m256 load_floats(int32_t kind, const uint8_t *bytes) {
  if (kind == NIBBLE_FLOAT32) return _mm256_loadu_ps((const float *)(const void *)bytes);
  const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)bytes);
  if (kind == NIBBLE_FLOAT16) return _mm256_cvtph_ps(x);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}

// Registers of eight elements; with `rows` (at most 4) rows, their sums fill half of the registers.
enum { MOST_VECTORS = 8 };

// Lines are read in their order where all passes go over a few rows of codes before the next ones.
enum { CHUNK_CODES = 16 };

// Step `i` reads `bytes` bytes, which may be half a line.
TARGET_INLINE void fetch_beside(int32_t i, int32_t bytes, nibble_feed *feed) {
  if (bytes >= 64)
    nibble_fetch(feed, bytes / 64);
  else if (i % 2 == 0)
    nibble_fetch(feed, 1);
}

// `vectors` times eight tokens, over `channels` channels; added to `scores` but for the first ones.
TARGET_INLINE void dot_floats_of(int32_t kind, int32_t rows, int32_t vectors, bool is_first,
                                 const uint8_t *codes, int32_t row_bytes, int32_t channels,
                                 const float *queries, size_t stride, float *scores,
                                 nibble_feed *feed) {
  const int32_t width = 8 * nibble_element_bytes(kind);
  __m256 sum[4][MOST_VECTORS];
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < vectors; i++)
      sum[r][i] = is_first ? _mm256_setzero_ps()
                           : _mm256_loadu_ps(scores + r * NIBBLE_MAX_BLOCK_TOKENS + i * 8);
  for (int32_t d = 0; d < channels; d++, codes += row_bytes) {
    fetch_beside(d, vectors * width, feed);
    __m256 keys[MOST_VECTORS];
    for (int i = 0; i < vectors; i++) keys[i] = load_floats(kind, codes + i * width);
    for (int r = 0; r < rows; r++) {
      const __m256 query = _mm256_broadcast_ss(queries + (size_t)r * stride + (size_t)d);
      for (int i = 0; i < vectors; i++) sum[r][i] = _mm256_fmadd_ps(query, keys[i], sum[r][i]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < vectors; i++)
      _mm256_storeu_ps(scores + r * NIBBLE_MAX_BLOCK_TOKENS + i * 8, sum[r][i]);
}

TARGET_INLINE void dot_float_rows(int32_t kind, int32_t rows, const uint8_t *codes,
                                  int32_t block_tokens, int32_t channels, const float *queries,
                                  size_t stride, float *scores, nibble_feed *feed) {
  const int32_t width = nibble_element_bytes(kind), most = MOST_VECTORS / rows,
                row_bytes = block_tokens * width;
  for (int32_t d = 0; d < channels; d += CHUNK_CODES) {
    const int32_t count = channels - d < CHUNK_CODES ? channels - d : CHUNK_CODES;
    const uint8_t *start = codes + d * row_bytes;
    int32_t t = 0;
    for (; t + most * 8 <= block_tokens; t += most * 8)
      dot_floats_of(kind, rows, most, d == 0, start + t * width, row_bytes, count, queries + d,
                    stride, scores + t, feed);
    for (; t < block_tokens; t += 16)
      dot_floats_of(kind, rows, 2, d == 0, start + t * width, row_bytes, count, queries + d, stride,
                    scores + t, feed);
  }
}

// `vectors` times eight channels.
TARGET_INLINE void weigh_floats_of(int32_t kind, int32_t rows, int32_t vectors,
                                   const uint8_t *codes, int32_t tokens, int32_t padded_channels,
                                   const float *weights, float *accumulators, nibble_feed *feed) {
  const int32_t width = 8 * nibble_element_bytes(kind),
                row_bytes = padded_channels * nibble_element_bytes(kind);
  __m256 sum[4][MOST_VECTORS];
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < vectors; i++)
      sum[r][i] = _mm256_loadu_ps(accumulators + r * padded_channels + i * 8);
  for (int32_t t = 0; t < tokens; t++, codes += row_bytes) {
    fetch_beside(t, vectors * width, feed);
    __m256 values[MOST_VECTORS];
    for (int i = 0; i < vectors; i++) values[i] = load_floats(kind, codes + i * width);
    for (int r = 0; r < rows; r++) {
      const __m256 weight = _mm256_broadcast_ss(weights + r * NIBBLE_MAX_BLOCK_TOKENS + t);
      for (int i = 0; i < vectors; i++) sum[r][i] = _mm256_fmadd_ps(weight, values[i], sum[r][i]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < vectors; i++)
      _mm256_storeu_ps(accumulators + r * padded_channels + i * 8, sum[r][i]);
}

TARGET_INLINE void weigh_float_rows(int32_t kind, int32_t rows, const uint8_t *codes,
                                    int32_t block_tokens, int32_t padded_channels,
                                    const float *weights, float *accumulators, nibble_feed *feed) {
  const int32_t width = nibble_element_bytes(kind), most = MOST_VECTORS / rows;
  for (int32_t t = 0; t < block_tokens; t += CHUNK_CODES, weights += CHUNK_CODES) {
    const uint8_t *start = codes + (size_t)t * (size_t)padded_channels * (size_t)width;
    int32_t d = 0;
    for (; d + most * 8 <= padded_channels; d += most * 8)
      weigh_floats_of(kind, rows, most, start + d * width, CHUNK_CODES, padded_channels, weights,
                      accumulators + d, feed);
    for (; d < padded_channels; d += 16)
      weigh_floats_of(kind, rows, 2, start + d * width, CHUNK_CODES, padded_channels, weights,
                      accumulators + d, feed);
  }
}

// Only the first rows fetch what comes next.
#define ROW_KERNELS(name, kind)                                                                    \
  TARGET static void dot_##name(const void *codes, int32_t block_tokens, int32_t channels,         \
                                const float *queries, size_t stride, int32_t rows, float *scores,  \
                                nibble_feed *feed) {                                               \
    for (; rows >= 4; rows -= 4) {                                                                 \
      dot_float_rows(kind, 4, codes, block_tokens, channels, queries, stride, scores, feed);       \
      queries += 4 * stride;                                                                       \
      scores += 4 * NIBBLE_MAX_BLOCK_TOKENS;                                                       \
    }                                                                                              \
    for (; rows >= 2; rows -= 2) {                                                                 \
      dot_float_rows(kind, 2, codes, block_tokens, channels, queries, stride, scores, feed);       \
      queries += 2 * stride;                                                                       \
      scores += 2 * NIBBLE_MAX_BLOCK_TOKENS;                                                       \
    }                                                                                              \
    if (rows)                                                                                      \
      dot_float_rows(kind, 1, codes, block_tokens, channels, queries, stride, scores, feed);       \
  }                                                                                                \
  TARGET static void weigh_##name(const void *codes, int32_t block_tokens,                         \
                                  int32_t padded_channels, const float *weights, int32_t rows,     \
                                  float *accumulators, nibble_feed *feed) {                        \
    for (; rows >= 4; rows -= 4) {                                                                 \
      weigh_float_rows(kind, 4, codes, block_tokens, padded_channels, weights, accumulators,       \
                       feed);                                                                      \
      weights += 4 * NIBBLE_MAX_BLOCK_TOKENS;                                                      \
      accumulators += 4 * padded_channels;                                                         \
    }                                                                                              \
    for (; rows >= 2; rows -= 2) {                                                                 \
      weigh_float_rows(kind, 2, codes, block_tokens, padded_channels, weights, accumulators,       \
                       feed);                                                                      \
      weights += 2 * NIBBLE_MAX_BLOCK_TOKENS;                                                      \
      accumulators += 2 * padded_channels;                                                         \
    }                                                                                              \
    if (rows)                                                                                      \
      weigh_float_rows(kind, 1, codes, block_tokens, padded_channels, weights, accumulators,       \
                       feed);                                                                      \
  }
ROW_KERNELS(float32, NIBBLE_FLOAT32)
ROW_KERNELS(float16, NIBBLE_FLOAT16)
ROW_KERNELS(bfloat16, NIBBLE_BFLOAT16)
