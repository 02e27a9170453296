// Chooses the instruction set once: the best that the machine runs, or the one that NIBBLE_ISA
// names.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

// Best first. A new instruction set adds its table here and its file beside the others.
static const nibble_kernels *available(int index) {
#if defined(__x86_64__)
  if (nibble_avx512_runs()) {
    if (index == 0) return &nibble_avx512_kernels;
    index--;
  }
  if (nibble_avx512vnni_runs()) {
    if (index == 0) return &nibble_avx512vnni_kernels;
    index--;
  }
  if (nibble_avxvnni_runs()) {
    if (index == 0) return &nibble_avxvnni_kernels;
    index--;
  }
  if (nibble_avx2_runs()) {
    if (index == 0) return &nibble_avx2_kernels;
    index--;
  }
#elif defined(__aarch64__)
  if (nibble_i8mm_runs()) {
    if (index == 0) return &nibble_i8mm_kernels;
    index--;
  }
  if (nibble_dotprod_runs()) {
    if (index == 0) return &nibble_dotprod_kernels;
    index--;
  }
  // Every 64-bit Arm has it.
  if (index == 0) return &nibble_neon_kernels;
  index--;
#endif
  return index == 0 ? &nibble_scalar_kernels : NULL;
}

static _Atomic(const nibble_kernels *) current;
static _Atomic(const char *) refused;

static const nibble_kernels *named(const char *name) {
  for (int i = 0; available(i); i++)
    if (strcmp(available(i)->name, name) == 0) return available(i);
  return NULL;
}

const nibble_kernels *nibble_current_kernels(void) {
  const nibble_kernels *kernels = atomic_load_explicit(&current, memory_order_acquire);
  if (kernels) return kernels;
  const char *asked = getenv("NIBBLE_ISA");
  kernels = asked ? named(asked) : NULL;
  if (!kernels) {
    if (asked && *asked) atomic_store(&refused, asked);
    kernels = available(0);
  }
  atomic_store_explicit(&current, kernels, memory_order_release);
  return kernels;
}

const char *nibble_isa(void) { return nibble_current_kernels()->name; }

bool nibble_select_isa(const char *name) {
  const nibble_kernels *kernels = named(name);
  if (!kernels) return false;
  atomic_store_explicit(&current, kernels, memory_order_release);
  return true;
}

const char *nibble_refused_isa(void) {
  nibble_current_kernels();
  return atomic_load(&refused);
}

const char *const *nibble_available_isas(void) {
  static const char *names[8];
  static atomic_flag filled = ATOMIC_FLAG_INIT;
  static atomic_bool ready;
  if (!atomic_flag_test_and_set(&filled)) {
    for (int i = 0; i < 7 && available(i); i++) names[i] = available(i)->name;
    atomic_store(&ready, true);
  }
  while (!atomic_load(&ready)) {
  }
  return names;
}

bool nibble_test_dot(const char *isa, nibble_kind kind, const uint8_t *codes, const int8_t *table,
                     int32_t block_tokens, int32_t channels, const int8_t *queries, int32_t rows,
                     int32_t *out) {
  const nibble_kernels *kernels = named(isa);
  if (!kernels) return false;
  int32_t *wide = calloc((size_t)rows * NIBBLE_MAX_BLOCK_TOKENS, sizeof *wide);
  if (!wide) return false;
  kernels->dot[kind](codes, table, block_tokens, channels, queries, (size_t)channels, rows, wide,
                     &(nibble_feed){0});
  for (int32_t row = 0; row < rows; row++)
    memcpy(out + (size_t)row * block_tokens, wide + (size_t)row * NIBBLE_MAX_BLOCK_TOKENS,
           (size_t)block_tokens * sizeof *out);
  free(wide);
  return true;
}

bool nibble_test_weigh(const char *isa, nibble_kind kind, const uint8_t *codes, const int8_t *table,
                       int32_t block_tokens, int32_t padded_channels, const uint8_t *weights,
                       int32_t rows, int32_t *out) {
  const nibble_kernels *kernels = named(isa);
  if (!kernels) return false;
  uint8_t *wide = calloc((size_t)rows, NIBBLE_MAX_BLOCK_TOKENS);
  if (!wide) return false;
  for (int32_t row = 0; row < rows; row++)
    memcpy(wide + (size_t)row * NIBBLE_MAX_BLOCK_TOKENS, weights + (size_t)row * block_tokens,
           (size_t)block_tokens);
  kernels->weigh[kind](codes, table, block_tokens, padded_channels, wide, rows, out,
                       &(nibble_feed){0});
  free(wide);
  return true;
}

uint64_t nibble_read_sum(const void *memory, size_t bytes) {
  const uint64_t *words = memory;
  uint64_t sum[8] = {0};
  for (size_t i = 0; i + 8 <= bytes / 8; i += 8)
    for (int j = 0; j < 8; j++) sum[j] += words[i + j];
  return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}
