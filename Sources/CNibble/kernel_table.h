// The table of an instruction set, from functions of fixed names: the last thing that its file
// includes. KERNEL_TABLE and KERNEL_NAME say which; TARGET is the attribute of its functions. The
// float parts are the common text of float_parts.h, compiled for these registers.

TARGET static void finish_scores(const nibble_score_finish *rows, int32_t count) {
  nibble_finish_scores(rows, count);
}
TARGET static void softmax(float *scores, int32_t tokens, int32_t rows, const float *bias,
                           float scale, float *maximum, float *sum, float *factor) {
  nibble_softmax_rows(scores, tokens, rows, bias, scale, maximum, sum, factor);
}
TARGET static void start_weights(nibble_weight_start *rows, int32_t count) {
  nibble_start_weights(rows, count);
}
TARGET static void finish_values(const nibble_value_finish *rows, int32_t count) {
  for (int32_t i = 0; i < count; i++) nibble_finish_values(&rows[i]);
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

const nibble_kernels KERNEL_TABLE = {
    .name = KERNEL_NAME,
    .dot = {[NIBBLE_INT8] = dot_int8,
            [NIBBLE_CODES4] = dot_codes4,
            [NIBBLE_CODES3] = dot_codes3,
            [NIBBLE_CODES2] = dot_codes2,
            [NIBBLE_TRELLIS4] = dot_trellis4,
            [NIBBLE_TRELLIS3] = dot_trellis3,
            [NIBBLE_TRELLIS2] = dot_trellis2,
            [NIBBLE_TRELLIS1] = dot_trellis1,
            [NIBBLE_BLOCKS4] = dot_blocks4,
            [NIBBLE_BLOCKS3] = dot_blocks3,
            [NIBBLE_BLOCKS2] = dot_blocks2,
            [NIBBLE_COLUMNS4] = dot_columns4,
            [NIBBLE_COLUMNS3] = dot_columns3,
            [NIBBLE_COLUMNS2] = dot_columns2},
    .weigh = {[NIBBLE_INT8] = weigh_int8,
              [NIBBLE_CODES4] = weigh_codes4,
              [NIBBLE_CODES3] = weigh_codes3,
              [NIBBLE_CODES2] = weigh_codes2,
              [NIBBLE_TRELLIS4] = weigh_trellis4,
              [NIBBLE_TRELLIS3] = weigh_trellis3,
              [NIBBLE_TRELLIS2] = weigh_trellis2,
              [NIBBLE_TRELLIS1] = weigh_trellis1,
              [NIBBLE_BLOCKS4] = weigh_blocks4,
              [NIBBLE_BLOCKS3] = weigh_blocks3,
              [NIBBLE_BLOCKS2] = weigh_blocks2,
              [NIBBLE_COLUMNS4] = weigh_columns4,
              [NIBBLE_COLUMNS3] = weigh_columns3,
              [NIBBLE_COLUMNS2] = weigh_columns2},
    .expand = {[NIBBLE_INT8] = expand_int8,
               [NIBBLE_CODES4] = expand_codes4,
               [NIBBLE_CODES3] = expand_codes3,
               [NIBBLE_CODES2] = expand_codes2,
               [NIBBLE_TRELLIS4] = expand_trellis4,
               [NIBBLE_TRELLIS3] = expand_trellis3,
               [NIBBLE_TRELLIS2] = expand_trellis2,
               [NIBBLE_TRELLIS1] = expand_trellis1,
               [NIBBLE_BLOCKS4] = expand_blocks4,
               [NIBBLE_BLOCKS3] = expand_blocks3,
               [NIBBLE_BLOCKS2] = expand_blocks2,
               [NIBBLE_COLUMNS4] = expand_columns4,
               [NIBBLE_COLUMNS3] = expand_columns3,
               [NIBBLE_COLUMNS2] = expand_columns2},
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
