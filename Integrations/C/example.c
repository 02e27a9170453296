// A cache filled and read from C, checked against attention in double precision over the same rows.
// Integrations/C/run-example.sh builds and runs it. Exit status 0: everything was as it should be.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "example.h"

enum {
  LAYERS = 2,
  QUERY_HEADS = 8,
  KV_HEADS = 2,
  HEAD_DIM = 64,
  TOKENS = 640,
  KV_ROW = KV_HEADS * HEAD_DIM,
  QUERY_ROW = QUERY_HEADS * HEAD_DIM,
};

// Attention of one query row over `tokens` exact rows.
static void attend_exactly(const float *query, const float *keys, const float *values, int tokens,
                           double *output) {
  static double weights[TOKENS];
  for (int head = 0; head < QUERY_HEADS; head++) {
    const float *q = query + head * HEAD_DIM;
    const int kv_offset = head / (QUERY_HEADS / KV_HEADS) * HEAD_DIM;
    double largest = -INFINITY, sum = 0;
    for (int t = 0; t < tokens; t++) {
      double score = 0;
      for (int d = 0; d < HEAD_DIM; d++) score += (double)q[d] * keys[t * KV_ROW + kv_offset + d];
      weights[t] = score / sqrt(HEAD_DIM);
      if (weights[t] > largest) largest = weights[t];
    }
    for (int t = 0; t < tokens; t++) sum += weights[t] = exp(weights[t] - largest);
    for (int d = 0; d < HEAD_DIM; d++) {
      double value = 0;
      for (int t = 0; t < tokens; t++) value += weights[t] * values[t * KV_ROW + kv_offset + d];
      output[head * HEAD_DIM + d] = value / sum;
    }
  }
}

static double relative_error(const float *output, const double *exact) {
  double difference = 0, norm = 0;
  for (int i = 0; i < QUERY_ROW; i++) {
    difference += (output[i] - exact[i]) * (output[i] - exact[i]);
    norm += exact[i] * exact[i];
  }
  return sqrt(difference / norm);
}

// Fills a cache of this policy and returns the error of the last token's attention in the last
// layer.
static double run(const char *policy, const float *keys, const float *values,
                  const float *queries) {
  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  nibble_cache *cache = NULL;
  check(nibble_cache_create(&shape, policy, 0, 1, &cache), policy);
  nibble_sequence *sequence = NULL;
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");

  static float output[TOKENS * QUERY_ROW];
  const int chunk = 128;
  for (int first = 0; first < TOKENS; first += chunk) {
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
      check(nibble_sequence_append(sequence, layer, chunk, keys + first * KV_ROW,
                                   values + first * KV_ROW),
            "nibble_sequence_append");
      check(nibble_sequence_attend(sequence, layer, chunk, queries + first * QUERY_ROW, 0, 0, 0,
                                   output + first * QUERY_ROW),
            "nibble_sequence_attend");
    }
  }

  static double exact[QUERY_ROW];
  attend_exactly(queries + (TOKENS - 1) * QUERY_ROW, keys, values, TOKENS, exact);
  const double error = relative_error(output + (TOKENS - 1) * QUERY_ROW, exact);

  nibble_sequence_statistics figures = {0};
  check(nibble_sequence_get_statistics(sequence, &figures, sizeof figures), "statistics");
  expect(figures.tokens == TOKENS, "the number of tokens");
  printf("%-14s %4llu tokens, %4llu compressed at %5.2f bits, %7llu bytes of %7llu, error %.1e\n",
         policy, (unsigned long long)figures.tokens, (unsigned long long)figures.compressed_tokens,
         figures.bits_per_value, (unsigned long long)figures.total_bytes,
         (unsigned long long)figures.exact_bytes, error);

  // The rows that attention sees, decoded: exact attention over them differs by rounding only.
  static float decoded_keys[TOKENS * KV_ROW], decoded_values[TOKENS * KV_ROW];
  check(nibble_sequence_get_rows(sequence, LAYERS - 1, TOKENS, decoded_keys, decoded_values),
        "nibble_sequence_get_rows");
  attend_exactly(queries + (TOKENS - 1) * QUERY_ROW, decoded_keys, decoded_values, TOKENS, exact);
  expect(relative_error(output + (TOKENS - 1) * QUERY_ROW, exact) < 0.02, "the decoded rows");
  expect(nibble_sequence_get_rows(sequence, 0, TOKENS + 1, decoded_keys, decoded_values) ==
             NIBBLE_INVALID_ARGUMENT,
         "rows that are not there are refused");

  // A branch has its own end; the pages before it are shared.
  nibble_sequence *branch = NULL;
  check(nibble_sequence_fork(sequence, &branch), "nibble_sequence_fork");
  check(nibble_sequence_truncate(branch, TOKENS - 32), "nibble_sequence_truncate");
  check(nibble_sequence_get_statistics(branch, &figures, sizeof figures), "statistics");
  expect(figures.tokens == TOKENS - 32, "the tokens of the shortened branch");
  check(nibble_sequence_get_statistics(sequence, &figures, sizeof figures), "statistics");
  expect(figures.tokens == TOKENS, "the tokens of the original");
  nibble_cache_statistics whole = {0};
  check(nibble_cache_get_statistics(cache, &whole, sizeof whole), "cache statistics");
  expect(whole.sequences == 2 && whole.held_bytes > 0 && whole.page_tokens > 0,
         "the cache's statistics");

  nibble_cache_free(cache);  // the sequences keep it alive
  nibble_sequence_free(branch);
  nibble_sequence_free(sequence);
  return error;
}

// Mistakes come back as a status and a message.
static void show_errors(const float *rows) {
  nibble_cache *cache = NULL;
  nibble_sequence *sequence = NULL;
  const nibble_model_shape uneven = {LAYERS, 7, KV_HEADS, HEAD_DIM};
  expect(nibble_cache_create(&uneven, NULL, 0, 0, &cache) == NIBBLE_INVALID_ARGUMENT,
         "7 query heads over 2 KV heads are refused");
  printf("uneven heads:  %s\n", nibble_last_error());

  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  expect(nibble_cache_create(&shape, "rotatde:4", 0, 0, &cache) == NIBBLE_INVALID_POLICY,
         "a misspelt codec is refused");
  printf("misspelt:      %s\n", nibble_last_error());

  expect(nibble_cache_create(&shape, "linear:4", 4096, 1, &cache) == NIBBLE_OVER_BUDGET,
         "a budget of 4096 bytes is too small for the working memory");
  printf("small budget:  %s\n", nibble_last_error());

  check(nibble_cache_create(&shape, "version: 1\nkeys: int8\nvalues: linear:4\n", 0, 1, &cache),
        "a policy as text");
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");
  expect(nibble_sequence_append(sequence, LAYERS, 1, rows, rows) == NIBBLE_INVALID_ARGUMENT,
         "a layer that does not exist is refused");
  printf("wrong layer:   %s\n", nibble_last_error());
  expect(nibble_sequence_append(sequence, 0, 1, rows, NULL) == NIBBLE_INVALID_ARGUMENT,
         "missing values are refused");
  printf("null values:   %s\n", nibble_last_error());
  expect(nibble_sequence_truncate(sequence, 1) == NIBBLE_INVALID_ARGUMENT,
         "an empty sequence cannot be cut to one token");
  nibble_sequence_free(sequence);
  nibble_cache_free(cache);
}

// A sequence of a new cache with these rows in both layers, appended 16 tokens at a time.
static nibble_sequence *fill_sequence(const nibble_cache_options *options, nibble_row_format format,
                                      const void *keys, const void *values) {
  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  const size_t row_bytes = KV_ROW * (format == NIBBLE_FLOAT32 ? 4 : 2), chunk = 16;
  nibble_cache *cache = NULL;
  nibble_sequence *sequence = NULL;
  check(nibble_cache_create_with_options(&shape, options, &cache), "the cache");
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");
  for (size_t first = 0; first < TOKENS; first += chunk) {
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
      check(nibble_sequence_append_rows(sequence, layer, chunk, format,
                                        (const char *)keys + first * row_bytes,
                                        (const char *)values + first * row_bytes),
            "nibble_sequence_append_rows");
    }
  }
  nibble_cache_free(cache);
  return sequence;
}

// Compares the last token's attention of two sequences bit for bit, and frees the second.
static void expect_same(nibble_sequence *first, nibble_sequence *second, uint64_t window,
                        const float *query, const char *what) {
  static float outputs[2][QUERY_ROW];
  check(nibble_sequence_attend(first, 0, 1, query, 0, window, 0, outputs[0]), what);
  check(nibble_sequence_attend(second, 0, 1, query, 0, window, 0, outputs[1]), what);
  expect(memcmp(outputs[0], outputs[1], sizeof outputs[0]) == 0, what);
  nibble_sequence_free(second);
}

// Rows in 16 bits are what they are when they are widened first.
static void show_formats(const float *query) {
  static uint16_t narrow[TOKENS * KV_ROW];
  static float wide[TOKENS * KV_ROW];
  const nibble_cache_options options = {.struct_bytes = sizeof options, .policy = "linear:4"};
  for (nibble_row_format format = NIBBLE_FLOAT16; format <= NIBBLE_BFLOAT16; format++) {
    for (int i = 0; i < TOKENS * KV_ROW; i++) {
      const uint32_t mantissa = (uint32_t)(i * 2654435761u) >> 22, power = (uint32_t)i % 6;
      if (format == NIBBLE_FLOAT16) {  // one sign, five bits of exponent, ten of mantissa
        narrow[i] = (uint16_t)((i & 1) << 15 | (power + 10) << 10 | mantissa);
        wide[i] = ldexpf((i & 1 ? -1.0f : 1.0f) * (1 + (float)mantissa / 1024), (int)power - 5);
      } else {  // one sign, eight bits of exponent, seven of mantissa
        narrow[i] = (uint16_t)((i & 1) << 15 | (power + 122) << 7 | mantissa >> 3);
        wide[i] =
            ldexpf((i & 1 ? -1.0f : 1.0f) * (1 + (float)(mantissa >> 3) / 128), (int)power - 5);
      }
    }
    nibble_sequence *sequence = fill_sequence(&options, format, narrow, narrow);
    expect_same(sequence, fill_sequence(&options, NIBBLE_FLOAT32, wide, wide), 0, query,
                "rows in 16 bits");
    expect(nibble_sequence_append_rows(sequence, 0, 1, 3, narrow, narrow) ==
               NIBBLE_INVALID_ARGUMENT,
           "a format that does not exist is refused");
    nibble_sequence_free(sequence);
  }
  printf("wrong format:  %s\n", nibble_last_error());
}

// A layer with a sliding window frees what is behind it, and attends to the window as before.
static void show_windows(const float *keys, const float *values, const float *query) {
  uint64_t windows[LAYERS] = {96, 0};
  nibble_cache_options options = {.struct_bytes = sizeof options,
                                  .policy = "exact@page_tokens=16@recent=16"};
  nibble_sequence *full = fill_sequence(&options, NIBBLE_FLOAT32, keys, values);
  options.sliding_windows = windows;
  nibble_sequence *sliding = fill_sequence(&options, NIBBLE_FLOAT32, keys, values);

  nibble_sequence_statistics figures[2] = {{0}};
  check(nibble_sequence_get_statistics(full, &figures[0], sizeof figures[0]), "statistics");
  check(nibble_sequence_get_statistics(sliding, &figures[1], sizeof figures[1]), "statistics");
  expect(figures[1].total_bytes < figures[0].total_bytes * 2 / 3, "pages behind the window go");
  static float output[QUERY_ROW];
  expect(nibble_sequence_attend(sliding, 0, 1, query, 0, 0, 0, output) == NIBBLE_INVALID_ARGUMENT,
         "tokens behind the window are gone");
  printf("behind window: %s\n", nibble_last_error());
  expect_same(full, sliding, windows[0], query, "attention in a sliding window");
  nibble_sequence_free(full);

  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  nibble_cache *cache = NULL;
  windows[1] = UINT64_C(1) << 30;
  expect(nibble_cache_create_with_options(&shape, &options, &cache) == NIBBLE_INVALID_ARGUMENT,
         "a window that no context can have is refused");
  printf("wild window:   %s\n", nibble_last_error());
}

// Several sequences in one call, each as if it were alone.
static void show_batch(const float *keys, const float *values, const float *queries) {
  enum { COUNT = 3 };
  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  nibble_cache *cache = NULL, *other = NULL;
  nibble_sequence *sequences[COUNT] = {NULL};
  check(nibble_cache_create(&shape, "rotated:4", 0, 2, &cache), "the cache");
  for (uint64_t i = 0; i < COUNT; i++) {
    check(nibble_sequence_create(cache, &sequences[i]), "nibble_sequence_create");
    check(nibble_sequence_append(sequences[i], 0, TOKENS - 200 * i, keys, values), "append");
  }
  static float batch[COUNT * 2 * QUERY_ROW], single[2 * QUERY_ROW];
  check(nibble_cache_attend(cache, COUNT, sequences, 0, 2, queries, 0, 0, 0, batch), "batch");
  for (int i = 0; i < COUNT; i++) {
    const size_t first = (size_t)i * 2 * QUERY_ROW;
    check(nibble_sequence_attend(sequences[i], 0, 2, queries + first, 0, 0, 0, single), "single");
    expect(memcmp(single, batch + first, sizeof single) == 0, "the same output in a batch");
  }

  expect(nibble_cache_attend(cache, 0, sequences, 0, 2, queries, 0, 0, 0, batch) ==
             NIBBLE_INVALID_ARGUMENT,
         "no sequences are refused");
  printf("no sequences:  %s\n", nibble_last_error());
  expect(nibble_cache_attend(cache, COUNT, sequences, 0, UINT64_MAX / 2, queries, 0, 0, 0, batch) ==
             NIBBLE_INVALID_ARGUMENT,
         "more tokens than memory can hold are refused");
  printf("too many:      %s\n", nibble_last_error());
  check(nibble_cache_create(&shape, "rotated:4", 0, 1, &other), "another cache");
  expect(nibble_cache_attend(other, COUNT, sequences, 0, 2, queries, 0, 0, 0, batch) ==
             NIBBLE_INVALID_ARGUMENT,
         "sequences of another cache are refused");
  printf("other cache:   %s\n", nibble_last_error());
  nibble_sequence_free(sequences[1]);
  sequences[1] = NULL;
  expect(nibble_cache_attend(cache, COUNT, sequences, 0, 2, queries, 0, 0, 0, batch) ==
             NIBBLE_INVALID_ARGUMENT,
         "a missing sequence is refused");
  printf("no sequence:   %s\n", nibble_last_error());
  for (int i = 0; i < COUNT; i++) nibble_sequence_free(sequences[i]);
  nibble_cache_free(cache);
  nibble_cache_free(other);
}

// Policies that need a calibration say so, and so do files that are none.
static void show_calibrations(void) {
  const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
  nibble_cache_options options = {.struct_bytes = sizeof options,
                                  .policy = "trellis:3@k.rotation=aligned"};
  nibble_cache *cache = NULL;
  expect(nibble_cache_create_with_options(&shape, &options, &cache) == NIBBLE_INVALID_POLICY,
         "aligned keys need a calibration");
  printf("uncalibrated:  %s\n", nibble_last_error());
  options.calibration = "no/such.calibration";
  expect(nibble_cache_create_with_options(&shape, &options, &cache) == NIBBLE_FILE_FAILED,
         "a calibration that is not there is refused");
  printf("no such file:  %s\n", nibble_last_error());
}

int main(void) {
  expect(nibble_abi_version() >= NIBBLE_ABI_VERSION, "the library knows what this header has");
  expect(strcmp(nibble_last_error(), "") == 0, "no error before the first call");

  float *keys = malloc(sizeof(float) * TOKENS * KV_ROW);
  float *values = malloc(sizeof(float) * TOKENS * KV_ROW);
  float *queries = malloc(sizeof(float) * TOKENS * QUERY_ROW);
  expect(keys && values && queries, "memory");
  fill(keys, TOKENS * KV_ROW, 1);
  fill(values, TOKENS * KV_ROW, 2);
  fill(queries, TOKENS * QUERY_ROW, 3);

  expect(run("exact", keys, values, queries) < 1e-3, "exact rows give exact attention");
  expect(run("conservative", keys, values, queries) < 0.2, "int8 keys and 4-bit values are close");
  expect(run("rotated:4", keys, values, queries) < 0.2, "4 bits are close");
  show_errors(keys);
  show_formats(queries);
  show_windows(keys, values, queries);
  show_batch(keys, values, queries);
  show_calibrations();

  free(keys);
  free(values);
  free(queries);
  puts("done");
  return 0;
}
