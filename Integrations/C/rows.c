// Writes rows and what attention makes of them through the C interface, for check-logits.sh, which
// gives the rows to the other hosts and compares.
//
//   rows FOLDER
//
// FOLDER/0.rows, FOLDER/1.rows and so on: a line of text, which has the policy, layers, query
// heads, KV heads, head dimension, scale, window, soft cap and the tokens of each step; then
// float32, for each step and layer queries, keys, values and output, [tokens, heads, head_dim]
// each.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "example.h"

enum { LAYERS = 2, QUERY_HEADS = 8, KV_HEADS = 2, HEAD_DIM = 64, MOST = 300 };

static const char *const policies[] = {"float16", "balanced", "small", "trellis:3"};
static const struct {
  float scale;
  uint64_t window;
  float soft_cap;
} options[] = {{0, 0, 0}, {0.25f, 100, 5}};
static const size_t steps[] = {200, 77, 1, 1, MOST, 61, 1};

enum { STEPS = sizeof steps / sizeof *steps };

static void write_floats(const float *values, size_t count, FILE *file) {
  expect(fwrite(values, sizeof(float), count, file) == count, "the file is written");
}

static void write_rows(const char *policy, int option, FILE *file) {
  static float queries[MOST * QUERY_HEADS * HEAD_DIM], output[MOST * QUERY_HEADS * HEAD_DIM];
  static float keys[MOST * KV_HEADS * HEAD_DIM], values[MOST * KV_HEADS * HEAD_DIM];
  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  nibble_cache *cache = NULL;
  nibble_sequence *sequence = NULL;
  check(nibble_cache_create(&shape, policy, 0, 1, &cache), policy);
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");

  fprintf(file, "%s %d %d %d %d %g %llu %g", policy, LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM,
          (double)options[option].scale, (unsigned long long)options[option].window,
          (double)options[option].soft_cap);
  for (int step = 0; step < STEPS; step++) fprintf(file, " %zu", steps[step]);
  fputc('\n', file);
  for (uint64_t step = 0; step < STEPS; step++) {
    const size_t tokens = steps[step];
    const size_t query_count = tokens * QUERY_HEADS * HEAD_DIM;
    const size_t key_count = tokens * KV_HEADS * HEAD_DIM;
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
      const uint64_t seed = 3 * (step * LAYERS + layer);
      fill(queries, query_count, seed);
      fill(keys, key_count, seed + 1);
      fill(values, key_count, seed + 2);
      check(nibble_sequence_append(sequence, layer, tokens, keys, values), "append");
      check(nibble_sequence_attend(sequence, layer, tokens, queries, options[option].scale,
                                   options[option].window, options[option].soft_cap, output),
            "attend");
      write_floats(queries, query_count, file);
      write_floats(keys, key_count, file);
      write_floats(values, key_count, file);
      write_floats(output, query_count, file);
    }
  }
  nibble_sequence_free(sequence);
  nibble_cache_free(cache);
}

int main(int count, char **words) {
  expect(count == 2, "one argument, a folder");
  int number = 0;
  for (size_t policy = 0; policy < sizeof policies / sizeof *policies; policy++) {
    for (int option = 0; option < (int)(sizeof options / sizeof *options); option++) {
      char path[4096];
      const int length = snprintf(path, sizeof path, "%s/%d.rows", words[1], number++);
      expect(length > 0 && length < (int)sizeof path, "a path that is not too long");
      FILE *file = fopen(path, "wb");
      expect(file != NULL, path);
      write_rows(policies[policy], option, file);
      expect(fclose(file) == 0, path);
    }
  }
  printf("%d files\n", number);
  return 0;
}
