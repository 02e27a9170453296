// Trains the tables of the trellis codes on the standard normal distribution and prints them as C.
//
//   cc -O3 -march=native scripts/train/train_trellis.c -o train_trellis -lm
//   ./train_trellis BITS [SEED [CHAINS [ROUNDS [STARTS [SHAKES]]]]]
//
// With 4 bits one table serves codes in both halves of a byte, whose index is the byte as it is
// packed (Specs/codecs.md, trellis). With 4 and 3 bits tables are odd: what half of them says is
// enough, at no cost in distortion (with 2 bits it would be 1.4 percent). Training alternates Viterbi paths and centroids (Marcellin and
// Fischer 1990; Tseng et al., "QTIP", 2024), from random stratified tables, keeping the best of
// several starts. With the command above, on a machine with fused
// multiply-add, the same arguments give the same table.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

enum { LANES = 16, ENTRIES = 256, LENGTH = 512, WINDOW_BITS = 8 };
typedef float lanes __attribute__((ext_vector_type(16)));
typedef int32_t masks __attribute__((ext_vector_type(16)));

static int bits, phases, states, branches;

// The table index of a window (oldest code in the high bits, the current one in the low bits): see
// nibble_trellis_index in Sources/CNibble/layout.h.
static int index_of(int phase, int window) {
  const int width = bits == 3 ? 2 : bits, places = WINDOW_BITS / width;
  const int place = bits == 4 ? phase : places - 1, ages = bits == 3 ? 3 : places;
  int index = 0;
  for (int age = 0; age < ages; age++) {
    const int code = window >> (age * bits);
    index |= (code & ((1 << width) - 1)) << ((place + places - age) % places * width);
    if (bits == 3 && age < 2) index |= (code >> 2 & 1) << ((place + 1) % places * width + 1 - age);
  }
  return index;
}

// The index whose entry is the negative of this one's; -1 where the table is not odd. As
// nibble_trellis_mirror in Sources/CNibble/layout.h.
static int mirror(int index) {
  if (bits == 4) return (-index & 0x7f) | (~index & 0x80);
  return bits == 3 ? index ^ 0xb7 : -1;
}

static void make_odd(float *table) {
  for (int i = 0; i < ENTRIES; i++)
    if (mirror(i) > i) table[mirror(i)] = -table[i];
}

static uint8_t came_from[LENGTH][128][LANES];  // the window's dropped symbol, by state

// Adds the windows of the best paths of LANES chains, free at both ends, and returns their errors.
static double follow(const float *x, const float *table, double *sum, double *count) {
  static lanes cost[2][128];
  for (int s = 0; s < states; s++) cost[0][s] = 0;
  const int dropped = WINDOW_BITS - bits;  // bits of a state
  for (int i = 0; i < LENGTH; i++) {
    const lanes value = *(const lanes *)(x + i * LANES);
    const lanes *old = cost[i & 1];
    lanes *fresh = cost[~i & 1];
    for (int s = 0; s < states; s++) {
      // Windows that end in state s: one for each value of the bits that drop out.
      lanes best;
      masks from = 0;
      for (int top = 0; top < branches; top++) {
        const int window = top << dropped | s;
        const lanes d = value - table[index_of(i % phases, window)];
        const lanes c = old[window >> bits] + d * d;
        if (top == 0) {
          best = c;
        } else {
          const masks less = c < best;
          best = (lanes)(((masks)c & less) | ((masks)best & ~less));
          from = (less & top) | (from & ~less);
        }
      }
      fresh[s] = best;
      for (int l = 0; l < LANES; l++) came_from[i][s][l] = (uint8_t)from[l];
    }
  }
  double error = 0;
  for (int l = 0; l < LANES; l++) {
    int state = 0;
    for (int s = 1; s < states; s++)
      if (cost[LENGTH & 1][s][l] < cost[LENGTH & 1][state][l]) state = s;
    error += (double)cost[LENGTH & 1][state][l];
    for (int i = LENGTH - 1; i >= 0; i--) {
      const int window = came_from[i][state][l] << dropped | state;
      const int index = index_of(i % phases, window);
      sum[index] += (double)x[i * LANES + l];
      count[index] += 1;
      state = window >> bits;
    }
  }
  return error;
}

static int compare(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

// Quantiles of the normal distribution, spread at random so that each state sees one of each
// stratum.
static void start(float *table) {
  float sorted[ENTRIES];
  for (int i = 0; i < ENTRIES; i++) {
    double low = -8, high = 8;
    for (int j = 0; j < 60; j++) {
      const double middle = (low + high) / 2;
      if (0.5 * erfc(-middle / 1.4142135623730951) < (i + 0.5) / ENTRIES)
        low = middle;
      else
        high = middle;
    }
    sorted[i] = (float)low;
  }
  qsort(sorted, ENTRIES, sizeof(float), compare);
  // Stratum of an index: the sum of its symbols, so that entries that differ in one symbol only, in
  // whichever phase, lie in different strata.
  int used[16] = {0}, order[16][ENTRIES];
  const int strata = branches, size = ENTRIES / strata;
  for (int j = 0; j < strata; j++) {
    for (int i = 0; i < size; i++) order[j][i] = i;
    for (int i = size - 1; i > 0; i--) {
      const int r = (int)(uniform() * (i + 1)), t = order[j][i];
      order[j][i] = order[j][r];
      order[j][r] = t;
    }
  }
  for (int index = 0; index < ENTRIES; index++) {
    int stratum = 0;
    if (bits == 3) {  // a linear map under which each phase's current symbol takes all eight values
      for (int b = 0; b < WINDOW_BITS; b += 2)
        stratum ^= (index >> b & 1) ^ (index >> b >> 1 & 1) << (b % 4 == 0 ? 2 : 1);
    } else {
      for (int b = 0; b < WINDOW_BITS; b += bits) stratum += index >> b & (branches - 1);
    }
    stratum %= strata;
    while (used[stratum] == size) stratum = (stratum + 1) % strata;
    table[index] = sorted[stratum * size + order[stratum][used[stratum]++]];
  }
  make_odd(table);
}

static void take_centroids(float *table, const double *sum, const double *count) {
  for (int i = 0; i < ENTRIES; i++) {
    const int j = mirror(i);
    if (j < 0 && count[i] > 0) table[i] = (float)(sum[i] / count[i]);
    if (j > i && count[i] + count[j] > 0)
      table[i] = (float)((sum[i] - sum[j]) / (count[i] + count[j]));
  }
  make_odd(table);
}

static double train(float *table, const float *data, int groups, int rounds) {
  double mean = 0;
  for (int round = 0; round < rounds; round++) {
    double sum[ENTRIES] = {0}, count[ENTRIES] = {0}, error = 0;
    for (int g = 0; g < groups; g++) error += follow(data + g * LENGTH * LANES, table, sum, count);
    mean = error / ((double)groups * LENGTH * LANES);
    if (round + 1 < rounds) take_centroids(table, sum, count);
    if (getenv("VERBOSE")) fprintf(stderr, "round %d: %.6f\n", round, mean);
  }
  return mean;
}

int main(int argc, char **argv) {
  bits = argc > 1 ? atoi(argv[1]) : 4;
  const int seed = argc > 2 ? atoi(argv[2]) : 1, chains = argc > 3 ? atoi(argv[3]) : 2048,
            rounds = argc > 4 ? atoi(argv[4]) : 60, starts = argc > 5 ? atoi(argv[5]) : 8,
            shakes = argc > 6 ? atoi(argv[6]) : 12;
  phases = bits == 4 ? 2 : 1;
  branches = 1 << bits;
  states = 1 << (WINDOW_BITS - bits);
  generator = (uint64_t)seed;
  const int groups = chains / LANES;
  float *data = aligned_alloc(64, sizeof(float) * (size_t)groups * LENGTH * LANES);
  for (int i = 0; i < groups * LENGTH * LANES; i++) data[i] = normal();
  float best[ENTRIES];
  double least = INFINITY;
  for (int s = 0; s < starts; s++) {
    float table[ENTRIES];
    start(table);
    const double error = train(table, data, groups / 8 > 0 ? groups / 8 : 1, rounds / 2);
    fprintf(stderr, "start %d: %.6f\n", s, error);
    if (error < least) {
      least = error;
      memcpy(best, table, sizeof best);
    }
  }
  least = train(best, data, groups, rounds);
  fprintf(stderr, "best start, all data: %.6f\n", least);
  for (int s = 0; s < shakes; s++) {
    float table[ENTRIES];
    for (int i = 0; i < ENTRIES; i++) table[i] = best[i] + 0.3f * normal() * (float)sqrt(least);
    make_odd(table);
    const double error = train(table, data, groups, rounds / 2);
    fprintf(stderr, "shake %d: %.6f\n", s, error);
    if (error < least) {
      least = error;
      memcpy(best, table, sizeof best);
    }
  }
  const double error = least;
  fprintf(stderr, "%d bits: relative error %.6f on the training data\n", bits, error);
  float top = 0;
  for (int i = 0; i < ENTRIES; i++) top = fabsf(best[i]) > top ? fabsf(best[i]) : top;
  printf("// %d bits, seed %d: one unit is %.9g\n", bits, seed, (double)(top / 127));
  for (int i = 0; i < ENTRIES; i++)
    printf("%ld,%s", lrint((double)best[i] * 127 / (double)top), i % 16 == 15 ? "\n" : " ");
}
