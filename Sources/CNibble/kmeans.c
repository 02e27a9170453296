// Exact weighted k-means in one dimension.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"

// Prefix sums make the cost of putting bins i ..< j into one cluster O(1): sum of w x^2 - (sum of w
// x)^2 / (sum of w).
typedef struct {
  const double *weight, *moment, *square;
} prefixes;

static double cost(const prefixes *p, int32_t i, int32_t j) {
  const double w = p->weight[j] - p->weight[i];
  if (w <= 0) return 0;
  const double m = p->moment[j] - p->moment[i];
  return p->square[j] - p->square[i] - m * m / w;
}

// best[j] for j in low ..< high, where the optimal split is monotone in j: divide and conquer.
static void fill(const prefixes *p, const double *before, double *best, int32_t *split, int32_t low,
                 int32_t high, int32_t first, int32_t last) {
  if (low >= high) return;
  const int32_t j = low + (high - low) / 2;
  double least = INFINITY;
  int32_t where = first;
  for (int32_t i = first; i <= last && i <= j; i++) {
    const double total = before[i] + cost(p, i, j);
    if (total < least) {
      least = total;
      where = i;
    }
  }
  best[j] = least;
  split[j] = where;
  fill(p, before, best, split, low, j, first, where);
  fill(p, before, best, split, j + 1, high, where, last);
}

void nibble_kmeans_histogram(const double *weight, const double *moment, int32_t bins,
                             int32_t levels, double *centroids) {
  const size_t n = (size_t)bins + 1;
  double *memory = malloc((5 * n) * sizeof(double) + (size_t)levels * n * sizeof(int32_t));
  if (!memory) {  // without memory: evenly spaced levels, which any caller can use
    for (int32_t k = 0; k < levels; k++) centroids[k] = (k + 0.5) * bins / levels;
    return;
  }
  double *w = memory, *m = w + n, *s = m + n, *before = s + n, *best = before + n;
  int32_t *split = (int32_t *)(best + n);
  w[0] = m[0] = s[0] = 0;
  for (int32_t i = 0; i < bins; i++) {
    const double x = weight[i] > 0 ? moment[i] / weight[i] : i;
    w[i + 1] = w[i] + weight[i];
    m[i + 1] = m[i] + weight[i] * x;
    s[i + 1] = s[i] + weight[i] * x * x;
  }
  const prefixes p = {w, m, s};
  for (int32_t j = 0; j <= bins; j++) {
    before[j] = cost(&p, 0, j);
    split[j] = 0;
  }
  for (int32_t k = 1; k < levels; k++) {
    fill(&p, before, best, split + (size_t)k * n, 0, bins + 1, 0, bins);
    memcpy(before, best, n * sizeof *best);
  }
  int32_t end = bins;
  for (int32_t k = levels - 1; k >= 0; k--) {
    const int32_t start = split[(size_t)k * n + (size_t)end];
    const double mass = w[end] - w[start];
    centroids[k] =
        mass > 0 ? (m[end] - m[start]) / mass : (k + 1 < levels ? centroids[k + 1] : start);
    end = start;
  }
  free(memory);
}
