// What attention leaves out because its softmax weight cannot matter. Off where a call has no
// nibble_skip.
#ifndef NIBBLE_SKIP_H
#define NIBBLE_SKIP_H

#include "layout.h"

enum { NIBBLE_SUMMARY_CHANNELS = 16 };  // that share a radius

// Norms of the stretches of 16 channels of each query row.
typedef float nibble_query_norms[NIBBLE_MAX_CHANNELS / NIBBLE_SUMMARY_CHANNELS];

// Once per call, before the first page.
void nibble_start_skipping(const nibble_rows *rows, int32_t channels, nibble_query_norms *norms);

// Whether no row of the call gives a token of this page more than its share, by the page's summary.
// `position` is that of the first of its `present` tokens; `next` is the page after it.
bool nibble_skips_page(const nibble_rows *rows, const nibble_partial *partial, int32_t channels,
                       const nibble_query_norms *norms, const uint8_t *page, const uint8_t *next,
                       int64_t position, int32_t present);

// Whether no row of first ..< first + count gives this stretch of tokens more than its share.
// `weights` [count][NIBBLE_MAX_BLOCK_TOKENS] are relative to the rows' maxima.
bool nibble_skips_values(const nibble_rows *rows, const nibble_partial *partial, int32_t first,
                         int32_t count, const float *weights, int32_t tokens);

#endif
