// The kernels of each kind of codes, for files with functions `expand_block`, `dot` and `weigh`
// that take the kind as a constant. A block that is not multiplied as it is goes through
// `fill_...`: one expansion for each kind, whoever asks.

#define INTEGER_KERNELS(name, kind)                                                                \
  TARGET static void fill_##name(const uint8_t *codes, const int8_t *table, bool is_values,        \
                                 int32_t block_tokens, int32_t channels, int8_t *out,              \
                                 nibble_feed *feed) {                                              \
    expand_block(kind, codes, table, is_values, block_tokens, channels, out, feed);                \
  }                                                                                                \
  TARGET static void dot_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens,   \
                                int32_t channels, const int8_t *queries, size_t stride,            \
                                int32_t rows, int32_t *out, nibble_feed *feed) {                   \
    dot(kind, fill_##name, codes, table, block_tokens, channels, queries, stride, rows, out,       \
        feed);                                                                                     \
  }                                                                                                \
  TARGET static void weigh_##name(const uint8_t *codes, const int8_t *table, int32_t block_tokens, \
                                  int32_t padded_channels, const uint8_t *weights, int32_t rows,   \
                                  int32_t *out, nibble_feed *feed) {                               \
    weigh(kind, fill_##name, codes, table, block_tokens, padded_channels, weights, rows, out,      \
          feed);                                                                                   \
  }                                                                                                \
  TARGET static void expand_##name(const uint8_t *codes, const int8_t *table, bool is_values,      \
                                   int32_t block_tokens, int32_t channels, int8_t *out) {          \
    nibble_feed none = {0};                                                                        \
    fill_##name(codes, table, is_values, block_tokens, channels, out, &none);                      \
  }
NIBBLE_EACH_CODE_KIND(INTEGER_KERNELS)
