// Trains the codebooks of the block-clustered code (bcq) and prints them as C.
//
//   cc -O3 -march=native scripts/train/train_bcq.c -o train_bcq -lm
//   ./train_bcq BITS [SEED [ROUNDS [SHAKES [FILE CHANNELS]]]]
//
// Without a file the data are rows of 128 standard normal values. A file holds rows of CHANNELS
// little-endian 32-bit floats, for example keys or values dumped from a model. Rows are scaled as
// the encoder scales them, by their largest magnitude over 31, and cut into blocks of 8 values.
//
// Training alternates between giving each block the codebook that codes it best and giving each
// codebook the centroids of its blocks' values (Elangovan, Sakr, Raghunathan and Khailany,
// "LO-BCQ", 2025), from several starts; at last entries move by single units as long as that lowers
// the error. Errors count in the rows' own units.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

enum { BOOKS = 8, ENTRIES = 16, BLOCK = 8, TOP = 31, LEVELS = 256 };
// Scaled values are counted in quarters of a unit, as the encoder counts them, so that distances to
// all entries are looked up.
enum { QUARTERS = 4 };

static int entries;       // of a codebook
static long blocks;       // of the data
static uint8_t *samples;  // [blocks][BLOCK], in quarters of a unit, plus 128
static float *weights;    // [blocks]: the square of the row's scale

typedef float codebooks[BOOKS][ENTRIES];  // in units

static float *take_row(FILE *in, int channels, float *row) {
  if (in) return fread(row, sizeof(float), (size_t)channels, in) == (size_t)channels ? row : NULL;
  for (int d = 0; d < channels; d++) row[d] = normal();
  return row;
}

static void read_rows(FILE *in, int channels, long rows) {
  if (in) {
    fseek(in, 0, SEEK_END);
    rows = ftell(in) / (long)sizeof(float) / channels;
    rewind(in);
  }
  const int blocks_of_row = channels / BLOCK;
  samples = malloc((size_t)rows * (size_t)channels + 1);
  weights = malloc(((size_t)rows * (size_t)blocks_of_row + 1) * sizeof *weights);
  float *row = malloc(sizeof(float) * (size_t)channels);
  for (long r = 0; r < rows && take_row(in, channels, row); r++, blocks += blocks_of_row) {
    float top = 0;
    for (int d = 0; d < channels; d++) top = fabsf(row[d]) > top ? fabsf(row[d]) : top;
    const float scale = top / TOP;
    for (int d = 0; d < channels; d++)
      samples[blocks * BLOCK + d] =
          (uint8_t)(128 + (scale > 0 ? (int)rintf(row[d] / scale * QUARTERS) : 0));
    for (int b = 0; b < blocks_of_row; b++) weights[blocks + b] = scale * scale;
  }
  free(row);
}

// ---- Errors

static float squares[LEVELS][BOOKS];  // of the distance to the nearest entry
static uint8_t nearest[BOOKS][LEVELS];

static void look_up(codebooks books) {
  for (int book = 0; book < BOOKS; book++)
    for (int q = 0; q < LEVELS; q++) {
      const float x = (float)(q - 128) / QUARTERS;
      int best = 0;
      for (int e = 1; e < entries; e++)
        if (fabsf(x - books[book][e]) < fabsf(x - books[book][best])) best = e;
      nearest[book][q] = (uint8_t)best;
      squares[q][book] = (x - books[book][best]) * (x - books[book][best]);
    }
}

// Gives each of the first `count` blocks its best codebook and returns the weighted error; counts
// values by codebook unless `histogram` is NULL.
static double assign(codebooks books, long count, double (*histogram)[LEVELS]) {
  look_up(books);
  double error = 0;
  for (long block = 0; block < count; block++) {
    const uint8_t *q = samples + block * BLOCK;
    float sum[BOOKS] = {0};
    for (int i = 0; i < BLOCK; i++)
      for (int book = 0; book < BOOKS; book++) sum[book] += squares[q[i]][book];
    int best = 0;
    for (int book = 1; book < BOOKS; book++)
      if (sum[book] < sum[best]) best = book;
    error += (double)(weights[block] * sum[best]);
    if (histogram)
      for (int i = 0; i < BLOCK; i++) histogram[best][q[i]] += (double)weights[block];
  }
  return error;
}

// Centroids of one codebook's values, a few times over.
static void centre(float *book, const double *histogram, int rounds) {
  for (int round = 0; round < rounds; round++) {
    double sum[ENTRIES] = {0}, weight[ENTRIES] = {0};
    for (int q = 0; q < LEVELS; q++) {
      const float x = (float)(q - 128) / QUARTERS;
      int best = 0;
      for (int e = 1; e < entries; e++)
        if (fabsf(x - book[e]) < fabsf(x - book[best])) best = e;
      sum[best] += histogram[q] * (double)x;
      weight[best] += histogram[q];
    }
    for (int e = 0; e < entries; e++)
      if (weight[e] > 0) book[e] = (float)(sum[e] / weight[e]);
  }
}

// ---- Training

static int compare_first(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

// Codebooks of blocks of like size.
static void start(codebooks books) {
  float(*order)[2] = malloc((size_t)blocks * sizeof *order);
  for (long block = 0; block < blocks; block++) {
    float square = 0;
    for (int i = 0; i < BLOCK; i++) {
      const float x = (float)(samples[block * BLOCK + i] - 128);
      square += x * x;
    }
    order[block][0] = square;
    order[block][1] = (float)block;
  }
  qsort(order, (size_t)blocks, sizeof *order, compare_first);
  for (int book = 0; book < BOOKS; book++) {
    double histogram[LEVELS] = {0}, total = 0, sum = 0;
    for (long i = blocks * book / BOOKS; i < blocks * (book + 1) / BOOKS; i++)
      for (int j = 0; j < BLOCK; j++) histogram[samples[(long)order[i][1] * BLOCK + j]] += 1;
    // Quantiles, then centroids.
    for (int q = 0; q < LEVELS; q++) total += histogram[q];
    for (int q = 0, e = 0; q < LEVELS && e < entries; q++)
      for (sum += histogram[q]; e < entries && sum >= (e + 0.5) / entries * total; e++)
        books[book][e] = (float)(q - 128) / QUARTERS;
    centre(books[book], histogram, 50);
  }
  free(order);
}

static double train(codebooks books, long count, int rounds) {
  for (int round = 0; round < rounds; round++) {
    double histogram[BOOKS][LEVELS] = {{0}};
    assign(books, count, histogram);
    for (int book = 0; book < BOOKS; book++) centre(books[book], histogram[book], 3);
  }
  return assign(books, count, NULL);
}

// Whole units, moved by one as long as that helps.
static double polish(codebooks books, long count) {
  for (int book = 0; book < BOOKS; book++)
    for (int e = 0; e < entries; e++) {
      const float x = rintf(books[book][e]);
      books[book][e] = x > TOP ? TOP : x < -TOP ? -TOP : x;
    }
  double least = assign(books, count, NULL), before;
  do {
    before = least;
    for (int i = 0; i < BOOKS * entries * 2; i++) {
      float *entry = &books[i / 2 / entries][i / 2 % entries];
      const float old = *entry, moved = old + (i % 2 ? 1 : -1);
      if (fabsf(moved) > TOP) continue;
      *entry = moved;
      const double error = assign(books, count, NULL);
      if (error < least)
        least = error;
      else
        *entry = old;
    }
  } while (least < before * 0.9999);
  return least;
}

// Ascending by the outermost entries, so that the same books have the same numbers.
static int compare_books(const void *a, const void *b) {
  const float *x = a, *y = b;
  const float p = x[entries - 1] - x[0], q = y[entries - 1] - y[0];
  return p != q ? (p > q) - (p < q) : (x[0] > y[0]) - (x[0] < y[0]);
}

int main(int argc, char **argv) {
  const int bits = argc > 1 ? atoi(argv[1]) : 4;
  generator = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
  const int rounds = argc > 3 ? atoi(argv[3]) : 150, shakes = argc > 4 ? atoi(argv[4]) : 80,
            channels = argc > 6 ? atoi(argv[6]) : 128;
  FILE *in = argc > 5 ? fopen(argv[5], "rb") : NULL;
  if (bits < 2 || bits > 4 || channels < BLOCK || channels % BLOCK || (argc > 5 && !in)) {
    fprintf(stderr, "usage: train_bcq BITS [SEED [ROUNDS [SHAKES [FILE CHANNELS]]]]\n");
    return 1;
  }
  entries = 1 << bits;
  read_rows(in, channels, 16384);
  if (blocks < 1000) {
    fprintf(stderr, "%ld blocks are too few to train on; 1,000 are needed\n", blocks);
    return 1;
  }
  const long part = blocks < 40000 ? blocks : 40000;
  codebooks best = {{0}};
  start(best);
  double least = train(best, blocks, rounds), power = 0, mass = 0;
  for (long block = 0; block < blocks; block++) mass += BLOCK * (double)weights[block];
  for (int s = 0; s < shakes; s++) {
    // Shaken by about the size of the errors, ever less.
    const float size = (float)sqrt(least / mass) * (2 - 1.7f * (float)s / (float)shakes);
    codebooks books;
    memcpy(books, best, sizeof books);
    for (int book = 0; book < BOOKS; book++)
      for (int e = 0; e < entries; e++) books[book][e] += size * normal();
    const double error = train(books, blocks, rounds);
    fprintf(stderr, "shake %d: %.6g, best %.6g\n", s, error, least);
    if (error >= least) continue;
    least = error;
    memcpy(best, books, sizeof best);
  }
  polish(best, part);
  for (int book = 0; book < BOOKS; book++)
    qsort(best[book], (size_t)entries, sizeof(float), compare_first);
  qsort(best, BOOKS, sizeof best[0], compare_books);
  for (long block = 0; block < blocks; block++)
    for (int i = 0; i < BLOCK; i++) {
      const double x = (double)(samples[block * BLOCK + i] - 128) / QUARTERS;
      power += (double)weights[block] * x * x;
    }
  fprintf(stderr, "%d bits: relative error %.6f\n", bits, assign(best, blocks, NULL) / power);
  printf("// %d bits, seed %s\n", bits, argc > 2 ? argv[2] : "1");
  for (int book = 0; book < BOOKS; book++)
    for (int e = 0; e < ENTRIES; e++)
      printf("%d,%s", e < entries ? (int)best[book][e] : 0, e == ENTRIES - 1 ? "\n" : " ");
}
