// The table of an instruction set, from functions of fixed names: the last thing that its file
// includes. KERNEL_TABLE and KERNEL_NAME say which; TARGET is the attribute of its functions. The
// float parts are the common text of float_parts.h, compiled for these registers.

TARGET static void finish_scores(const nibble_score_finish *chunk, nibble_feed *feed) {
  nibble_finish_scores(chunk, feed);
}
TARGET static void softmax(float *scores, int32_t tokens, int32_t rows, const float *bias,
                           float scale, float *maximum, float *sum, float *factor,
                           nibble_feed *feed) {
  nibble_softmax_rows(scores, tokens, rows, bias, scale, maximum, sum, factor, feed);
}
TARGET static void start_weights(nibble_weight_start *chunk, nibble_feed *feed) {
  nibble_start_weights(chunk, feed);
}
TARGET static void finish_values(const nibble_value_finish *chunk, nibble_feed *feed) {
  nibble_finish_values(chunk, feed);
}
TARGET static void combine(float *result, float a, const float *source, float b, size_t n) {
  nibble_combine_floats(result, a, source, b, n);
}
TARGET static float dot_floats(const float *a, const float *b, size_t n) {
  return nibble_dot_floats(a, b, n);
}
TARGET static void quantize_query(const float *query, int32_t channels, bool halves, int8_t *high,
                                  int8_t *low, float *scale) {
  nibble_quantize_floats(query, channels, halves, high, low, scale);
}
#if !defined(KERNEL_HAS_NEAREST_ENTRIES)
TARGET static void nearest_entries(const float *values, size_t count, float inverse_scale,
                                   const float *thresholds, int32_t levels, uint8_t *codes) {
  nibble_nearest_codes(values, count, inverse_scale, thresholds, levels, codes);
}
#endif
TARGET static void even_levels(const float *values, size_t count, float inverse_scale, float zero,
                               float top, uint8_t *codes) {
  nibble_even_codes(values, count, inverse_scale, zero, top, codes);
}

#define DOT_OF_KIND(name, kind) [kind] = dot_##name,
#define WEIGH_OF_KIND(name, kind) [kind] = weigh_##name,
#define EXPAND_OF_KIND(name, kind) [kind] = expand_##name,

const nibble_kernels KERNEL_TABLE = {
    .name = KERNEL_NAME,
    .dot = {NIBBLE_EACH_CODE_KIND(DOT_OF_KIND)},
    .weigh = {NIBBLE_EACH_CODE_KIND(WEIGH_OF_KIND)},
    .expand = {NIBBLE_EACH_CODE_KIND(EXPAND_OF_KIND)},
#if defined(KERNEL_HAS_PREFERS_CODES)
    .prefers_codes = prefers_codes,
#endif
    .dot_rows = {dot_float32, dot_float16, dot_bfloat16},
    .weigh_rows = {weigh_float32, weigh_float16, weigh_bfloat16},
    .finish_scores = finish_scores,
    .softmax = softmax,
    .start_weights = start_weights,
    .finish_values = finish_values,
    .combine = combine,
    .dot_floats = dot_floats,
    .quantize_query = quantize_query,
    .narrow_float16 = narrow_float16,
    .widen_float16 = widen_float16,
    .hadamard = hadamard,
    .nearest_entries = nearest_entries,
    .even_levels = even_levels,
    .trellis_step = trellis_step,
};
