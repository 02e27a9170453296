// Repeatable random numbers of the trainers.
#include <math.h>
#include <stdint.h>

static uint64_t generator;

static uint64_t next(void) {  // SplitMix64
  uint64_t z = (generator += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
static double uniform(void) { return ((double)(next() >> 11) + 0.5) / 9007199254740992.0; }
static float normal(void) {
  return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
}
