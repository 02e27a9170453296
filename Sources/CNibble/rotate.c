// The random signed Hadamard transform, and its Hartley factor for head dimensions that are not a
// power of two; and transforms by any matrix.
#include <math.h>
#include <string.h>

#include "kernels.h"

// SplitMix64 (Steele, Lea, Flood 2014) from a fixed seed: the signs are part of the page format.
static uint64_t sign_word(uint64_t index) {
  uint64_t z = UINT64_C(0x4e6962626c654b56) + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static void make_signs(float *signs, int32_t channels) {
  uint64_t word = 0;
  for (int32_t d = 0; d < channels; d++) {
    if (d % 64 == 0) word = sign_word((uint64_t)d / 64);
    signs[d] = (word >> (d % 64) & 1) ? -1.0f : 1.0f;
  }
}

// channels = odd * power: the row is `odd` segments of `power` values; Hadamard along the segments,
// Hartley across.
static int32_t power_of(int32_t channels) { return channels & -channels; }

static void make_hartley(float *matrix, int32_t odd) {
  const double pi = 3.14159265358979323846;
  for (int32_t i = 0; i < odd; i++)
    for (int32_t j = 0; j < odd; j++) {
      const double angle = 2 * pi * (double)(i * j % odd) / odd;
      matrix[i * odd + j] = (float)((cos(angle) + sin(angle)) / sqrt(odd));
    }
}

// The row times `signs`, transformed.
static void transform(const nibble_kernels *kernels, float *row, int32_t channels,
                      const float *signs, const float *hartley) {
  const int32_t power = power_of(channels), odd = channels / power;
  const float factor = (float)(1 / sqrt(power));
  for (int32_t k = 0; k < odd; k++)
    kernels->hadamard(row + k * power, power, signs + k * power, factor);
  if (odd == 1) return;
  float mixed[NIBBLE_MAX_CHANNELS];
  for (int32_t i = 0; i < odd; i++) {
    float *target = mixed + i * power;
    for (int32_t j = 0; j < power; j++) target[j] = 0;
    for (int32_t k = 0; k < odd; k++) {
      const float c = hartley[i * odd + k];
      for (int32_t j = 0; j < power; j++) target[j] += c * row[k * power + j];
    }
  }
  memcpy(row, mixed, (size_t)channels * sizeof *row);
}

static void rotate(float *values, size_t rows, int32_t channels, bool back) {
  const nibble_kernels *kernels = nibble_current_kernels();
  float signs[NIBBLE_MAX_CHANNELS], ones[NIBBLE_MAX_CHANNELS], hartley[63 * 63];
  const int32_t odd = channels / power_of(channels);
  make_signs(signs, channels);
  for (int32_t d = 0; d < channels; d++) ones[d] = 1;
  if (odd > 1) make_hartley(hartley, odd);
  for (size_t row = 0; row < rows; row++, values += channels) {
    transform(kernels, values, channels, back ? ones : signs, hartley);
    if (back)
      for (int32_t d = 0; d < channels; d++) values[d] *= signs[d];
  }
}

void nibble_analyse(const float *matrix, int32_t count, int32_t channels, const float *rows,
                    size_t row_count, float *result) {
  const nibble_kernels *kernels = nibble_current_kernels();
  for (size_t row = 0; row < row_count; row++, rows += channels, result += count)
    for (int32_t i = 0; i < count; i++)
      result[i] = kernels->dot_floats(matrix + i * channels, rows, (size_t)channels);
}

void nibble_synthesize(const float *matrix, int32_t count, int32_t channels,
                       const float *coefficients, float *result) {
  const nibble_kernels *kernels = nibble_current_kernels();
  memset(result, 0, (size_t)channels * sizeof *result);
  for (int32_t i = 0; i < count; i++)
    kernels->combine(result, 1, matrix + i * channels, coefficients[i], (size_t)channels);
}

void nibble_rotate(float *values, size_t rows, int32_t channels) {
  rotate(values, rows, channels, false);
}

void nibble_rotate_back(float *values, size_t rows, int32_t channels) {
  rotate(values, rows, channels, true);
}
