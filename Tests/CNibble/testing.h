// What the kernel tests share: checks, repeatable random numbers, exact allocations, strips.
#ifndef NIBBLE_TESTING_H
#define NIBBLE_TESTING_H

#include <stdio.h>

#include "CNibble.h"

// Counts a failure and prints the first of them; returns the condition.
#define CHECK(condition, ...) check(condition, __FILE__, __LINE__, __VA_ARGS__)
__attribute__((format(printf, 4, 5))) bool check(bool condition, const char *file, int line,
                                                 const char *format, ...);

// One call in N is true where the program runs with `--sample N`, which is for emulators; without,
// all are.
bool is_sampled(void);

uint64_t random_word(void);
void random_seed(uint64_t seed);
int32_t random_below(int32_t limit);
float random_normal(void);
void random_normals(float *values, size_t count, float mean);

// Zeroed memory of exactly this size, aligned to 64: the address sanitizer sees the first byte
// beyond it.
void *exact_memory(size_t bytes);

// ‖a - b‖ / ‖b‖.
double relative_error(const float *a, const float *b, size_t count);

// A codec as StripLayoutBuilder lays it out.
typedef struct {
  const char *name;
  nibble_kind kind;
  nibble_rule rule;
  int32_t levels;
  // MIXED: by token, over 16 channels of 8 bits, those of the kind, and 16 channels without codes.
  enum { PER_TOKEN, PER_CHANNEL, BALANCED, NO_SCALES, MIXED } scales;
  int32_t group;     // channels that share a token's scale; 0: all of them
  int32_t block;     // tokens that share a channel's scale; 0: the whole block
  float error;       // largest relative error on normal rows
  int32_t outliers;  // of each block
} codec;

extern const codec codecs[];
extern const int32_t codec_count;

// Fills in the strip's parts; false where the codec does not come in this shape.
bool make_strip(const codec *codec, bool is_values, int32_t tokens, int32_t channels,
                nibble_strip strip[NIBBLE_MAX_PARTS]);
// Of all parts.
size_t strip_code_bytes(const nibble_strip *strip);
// What errors of channels count for codecs that are mixed; otherwise NULL.
const float *strip_weights(const codec *codec);

void test_integer_kernels(void);
void test_rotation(void);
void test_strips(void);
void test_edges(void);
void test_attention(void);
void test_skipping(void);

#endif
