// What the examples share: a mistake ends them, and numbers that look random.
#ifndef NIBBLE_EXAMPLE_H
#define NIBBLE_EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>

#include "nibblekv.h"

static inline void check(nibble_status status, const char *what) {
  if (status == NIBBLE_OK) return;
  fprintf(stderr, "%s: status %d: %s\n", what, (int)status, nibble_last_error());
  exit(1);
}

static inline void expect(int condition, const char *what) {
  if (condition) return;
  fprintf(stderr, "not as expected: %s\n", what);
  exit(1);
}

// Uniform numbers in -1...1, the same on every machine.
static inline void fill(float *values, size_t count, uint64_t seed) {
  for (size_t i = 0; i < count; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    values[i] = (float)(seed >> 40) / 8388608.0f - 1.0f;
  }
}

#endif
