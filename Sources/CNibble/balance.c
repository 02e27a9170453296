// Scales by channel that balance a block together with those by token.
#include "encode.h"

enum { ROUNDS = 4 };

typedef struct {
  const nibble_kernels *kernels;
  int32_t tokens, channels;
  const float *rows;                        // [tokens][channels]
  float by_token[NIBBLE_MAX_BLOCK_TOKENS];  // what rows are multiplied by
  float by_channel[NIBBLE_MAX_CHANNELS];
} balance;

static void fit_tokens(balance *b) {
  float scaled[NIBBLE_MAX_CHANNELS];
  for (int32_t t = 0; t < b->tokens; t++) {
    for (int32_t d = 0; d < b->channels; d++)
      scaled[d] = b->rows[t * b->channels + d] * b->by_channel[d];
    b->by_token[t] = nibble_inverse(nibble_root_mean_square(b->kernels, scaled, b->channels));
  }
}

// Scales, not their inverses: they are stored.
static void fit_channels(const balance *b, float scales[NIBBLE_MAX_CHANNELS]) {
  float scaled[NIBBLE_MAX_BLOCK_TOKENS];
  for (int32_t d = 0; d < b->channels; d++) {
    for (int32_t t = 0; t < b->tokens; t++)
      scaled[t] = b->rows[t * b->channels + d] * b->by_token[t];
    scales[d] = nibble_root_mean_square(b->kernels, scaled, b->tokens);
  }
}

void nibble_balance(const nibble_strip *strip, float *rows, uint8_t *side) {
  if (!nibble_is_balanced(strip)) return;
  const int32_t tokens = strip->block_tokens, channels = strip->channels;
  float scales[NIBBLE_MAX_CHANNELS];
  for (int32_t block = 0; block * tokens < strip->tokens; block++, rows += tokens * channels) {
    balance b = {nibble_current_kernels(), tokens, channels, rows, {0}, {0}};
    for (int32_t d = 0; d < channels; d++) b.by_channel[d] = 1;
    for (int32_t round = 0; round < ROUNDS; round++) {
      fit_tokens(&b);
      fit_channels(&b, scales);
      for (int32_t d = 0; d < channels; d++) b.by_channel[d] = nibble_inverse(scales[d]);
    }
    for (int32_t d = 0; d < channels; d++) {
      const float stored =
          nibble_stored_scale(side, strip->channel_scale, block * channels + d, scales[d]);
      b.by_channel[d] = nibble_inverse(stored);
    }
    for (int32_t t = 0; t < tokens; t++)
      for (int32_t d = 0; d < channels; d++) rows[t * channels + d] *= b.by_channel[d];
  }
}
