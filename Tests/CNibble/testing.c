#define _POSIX_C_SOURCE 200112L  // posix_memalign
#include "testing.h"

#include "layout.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int failures;

bool check(bool condition, const char *file, int line, const char *format, ...) {
  if (condition) return true;
  if (failures++ < 20) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
  }
  return false;
}

// ---- Samples

static uint64_t sample_stride = 1, sample_turn;

bool is_sampled(void) { return sample_turn++ % sample_stride == 0; }

// ---- Random numbers: SplitMix64

static uint64_t state = 1;

void random_seed(uint64_t seed) { state = seed; }

uint64_t random_word(void) {
  uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

int32_t random_below(int32_t limit) { return (int32_t)(random_word() % (uint64_t)limit); }

// Nearly normal: the sum of twelve uniform numbers.
float random_normal(void) {
  float sum = -6;
  for (int i = 0; i < 12; i++) sum += (float)(random_word() >> 40) * 0x1p-24f;
  return sum;
}

void random_normals(float *values, size_t count, float mean) {
  for (size_t i = 0; i < count; i++) values[i] = mean + random_normal();
}

// ---- Memory and errors

void *exact_memory(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, 64, bytes)) abort();
  memset(memory, 0, bytes);
  return memory;
}

double relative_error(const float *a, const float *b, size_t count) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < count; i++) {
    difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    norm += (double)b[i] * (double)b[i];
  }
  return sqrt(norm > 0 ? difference / norm : difference);
}

// ---- Strips

const codec codecs[] = {
    {"float32", NIBBLE_FLOAT32, NIBBLE_RULE_COPY, 0, NO_SCALES, 0, 0, 0, 0},
    {"float16", NIBBLE_FLOAT16, NIBBLE_RULE_COPY, 0, NO_SCALES, 0, 0, 3e-4f, 0},
    {"bfloat16", NIBBLE_BFLOAT16, NIBBLE_RULE_COPY, 0, NO_SCALES, 0, 0, 3e-3f, 0},
    {"int8", NIBBLE_INT8, NIBBLE_RULE_SYMMETRIC, 256, PER_TOKEN, 0, 0, 0.01f, 0},
    {"int8 by groups", NIBBLE_INT8, NIBBLE_RULE_SYMMETRIC, 256, PER_TOKEN, 16, 0, 0.01f, 0},
    {"int8 by channel", NIBBLE_INT8, NIBBLE_RULE_SYMMETRIC, 256, PER_CHANNEL, 0, 0, 0.01f, 0},
    {"linear 8", NIBBLE_INT8, NIBBLE_RULE_ZERO_POINT, 256, PER_TOKEN, 0, 0, 0.01f, 0},
    {"linear 4", NIBBLE_CODES4, NIBBLE_RULE_ZERO_POINT, 16, PER_TOKEN, 0, 0, 0.14f, 0},
    {"linear 3", NIBBLE_CODES3, NIBBLE_RULE_ZERO_POINT, 8, PER_TOKEN, 0, 0, 0.3f, 0},
    {"linear 2", NIBBLE_CODES2, NIBBLE_RULE_ZERO_POINT, 4, PER_TOKEN, 0, 0, 0.7f, 0},
    {"symmetric 4", NIBBLE_CODES4, NIBBLE_RULE_SYMMETRIC, 16, PER_TOKEN, 0, 0, 0.16f, 0},
    {"linear 4 by channel", NIBBLE_CODES4, NIBBLE_RULE_ZERO_POINT, 16, PER_CHANNEL, 0, 0, 0.14f, 0},
    {"linear 3 by channel", NIBBLE_CODES3, NIBBLE_RULE_ZERO_POINT, 8, PER_CHANNEL, 0, 32, 0.3f, 0},
    {"linear 4 by groups", NIBBLE_CODES4, NIBBLE_RULE_ZERO_POINT, 16, PER_TOKEN, 32, 0, 0.14f, 0},
    {"linear 2 by groups", NIBBLE_CODES2, NIBBLE_RULE_ZERO_POINT, 4, PER_TOKEN, 64, 0, 0.7f, 0},
    {"clustered 4", NIBBLE_CODES4, NIBBLE_RULE_FITTED, 16, PER_TOKEN, 0, 0, 0.14f, 0},
    {"clustered 3", NIBBLE_CODES3, NIBBLE_RULE_FITTED, 8, PER_TOKEN, 0, 0, 0.25f, 0},
    {"clustered 2", NIBBLE_CODES2, NIBBLE_RULE_FITTED, 4, PER_TOKEN, 0, 0, 0.45f, 0},
    {"clustered 4, table only", NIBBLE_CODES4, NIBBLE_RULE_FITTED, 16, NO_SCALES, 0, 0, 0.14f, 0},
    {"clustered 3 by channel", NIBBLE_CODES3, NIBBLE_RULE_FITTED, 8, PER_CHANNEL, 0, 0, 0.25f, 0},
    {"fixed 4", NIBBLE_CODES4, NIBBLE_RULE_FIXED, 16, PER_TOKEN, 0, 0, 0.2f, 0},
    {"fixed 3", NIBBLE_CODES3, NIBBLE_RULE_FIXED, 8, PER_TOKEN, 0, 0, 0.3f, 0},
    {"fixed 2", NIBBLE_CODES2, NIBBLE_RULE_FIXED, 4, PER_TOKEN, 0, 0, 0.5f, 0},
    {"clipped 4", NIBBLE_CODES4, NIBBLE_RULE_ZERO_POINT_CLIPPED, 16, PER_TOKEN, 0, 0, 0.14f, 0},
    {"clipped 2 by groups", NIBBLE_CODES2, NIBBLE_RULE_ZERO_POINT_CLIPPED, 4, PER_TOKEN, 32, 0,
     0.5f, 0},
    {"clipped 3 by channel", NIBBLE_CODES3, NIBBLE_RULE_SYMMETRIC_CLIPPED, 8, PER_CHANNEL, 0, 0,
     0.3f, 0},
    {"trellis 4", NIBBLE_TRELLIS4, NIBBLE_RULE_TRELLIS, 16, PER_TOKEN, 0, 0, 0.17f, 0},
    {"trellis 3", NIBBLE_TRELLIS3, NIBBLE_RULE_TRELLIS, 8, PER_TOKEN, 0, 0, 0.3f, 0},
    {"trellis 2", NIBBLE_TRELLIS2, NIBBLE_RULE_TRELLIS, 4, PER_TOKEN, 0, 0, 0.5f, 0},
    {"trellis 1", NIBBLE_TRELLIS1, NIBBLE_RULE_TRELLIS, 2, PER_TOKEN, 0, 0, 1.0f, 0},
    {"bcq 4", NIBBLE_BLOCKS4, NIBBLE_RULE_CODEBOOKS, 16, PER_TOKEN, 0, 0, 0.1f, 0},
    {"bcq 3", NIBBLE_BLOCKS3, NIBBLE_RULE_CODEBOOKS, 8, PER_TOKEN, 0, 0, 0.2f, 0},
    {"bcq 2", NIBBLE_BLOCKS2, NIBBLE_RULE_CODEBOOKS, 4, PER_TOKEN, 0, 0, 0.4f, 0},
    {"bcq 4 by groups", NIBBLE_BLOCKS4, NIBBLE_RULE_CODEBOOKS, 16, PER_TOKEN, 16, 0, 0.1f, 0},
    {"bcq 4 by columns", NIBBLE_COLUMNS4, NIBBLE_RULE_CODEBOOKS, 16, PER_TOKEN, 0, 0, 0.15f, 0},
    {"bcq 3 by columns", NIBBLE_COLUMNS3, NIBBLE_RULE_CODEBOOKS, 8, PER_CHANNEL, 0, 0, 0.25f, 0},
    {"bcq 2 by columns", NIBBLE_COLUMNS2, NIBBLE_RULE_CODEBOOKS, 4, PER_TOKEN, 64, 0, 0.6f, 0},
    {"bcq 4 by short columns", NIBBLE_COLUMNS4, NIBBLE_RULE_CODEBOOKS, 16, PER_CHANNEL, 0, 16,
     0.15f, 0},
    {"linear 4, balanced", NIBBLE_CODES4, NIBBLE_RULE_ZERO_POINT, 16, BALANCED, 0, 0, 0.16f, 0},
    {"linear 2 and outliers", NIBBLE_CODES2, NIBBLE_RULE_ZERO_POINT, 4, PER_TOKEN, 0, 0, 0.7f, 5},
    {"clustered 3, balanced, and outliers", NIBBLE_CODES3, NIBBLE_RULE_FITTED, 8, BALANCED, 0, 0,
     0.3f, 9},
    {"trellis 3 and outliers", NIBBLE_TRELLIS3, NIBBLE_RULE_TRELLIS, 8, PER_TOKEN, 0, 0, 0.3f, 20},
    {"int8 by channel and outliers", NIBBLE_INT8, NIBBLE_RULE_SYMMETRIC, 256, PER_CHANNEL, 0, 16,
     0.01f, 3},
    {"trellis 4 among others", NIBBLE_TRELLIS4, NIBBLE_RULE_TRELLIS, 16, MIXED, 0, 0, 0.8f, 0},
    {"trellis 2 among others", NIBBLE_TRELLIS2, NIBBLE_RULE_TRELLIS, 4, MIXED, 0, 0, 0.8f, 0},
    {"fixed 3 among others", NIBBLE_CODES3, NIBBLE_RULE_FIXED, 8, MIXED, 0, 0, 0.8f, 0},
};
const int32_t codec_count = sizeof codecs / sizeof *codecs;

static int32_t add_side(nibble_strip *strip, int32_t bytes) {
  const int32_t offset = strip->side_bytes;
  strip->side_bytes += (bytes + 3) & ~3;
  return offset;
}

static void make_table(const codec *codec, nibble_strip *strip) {
  const float largest = codec->levels == 16 ? 2.7f : codec->levels == 8 ? 2.2f : 1.5f;
  for (int32_t k = 0; k < codec->levels; k++) {
    const int32_t about_zero = 2 * k - (codec->levels - 1);
    if (codec->rule == NIBBLE_RULE_FIXED)
      strip->fixed_table[k] = (int8_t)(about_zero * 127 / (codec->levels - 1));
    else
      strip->fixed_table[k] = (int8_t)(codec->rule == NIBBLE_RULE_ZERO_POINT ||
                                               codec->rule == NIBBLE_RULE_ZERO_POINT_CLIPPED
                                           ? k
                                           : about_zero);
  }
  strip->fixed_scale = codec->rule == NIBBLE_RULE_FIXED ? largest / 127 : 1;
}

// 16 channels of eight bits, then those of the given kind, and 16 without codes.
static void mix_parts(nibble_strip strip[NIBBLE_MAX_PARTS]) {
  strip[0].fits_scales = true;
  strip[1] = strip[0];
  strip[0].channels = strip[0].group_channels = 16;
  strip[1].channels = strip[1].group_channels = strip[1].row_channels - 32;
  strip[0].kind = NIBBLE_INT8;
  strip[0].rule = NIBBLE_RULE_SYMMETRIC;
  strip[0].levels = 256;
  strip[0].fixed_scale = 8.0f / 127;
  nibble_strip_measure(strip, 2);
}

size_t strip_code_bytes(const nibble_strip *strip) {
  const nibble_strip *last = strip + strip->parts - 1;
  return (size_t)(last->code_offset + last->code_bytes);
}

const float *strip_weights(const codec *codec) {
  static float weights[NIBBLE_MAX_CHANNELS];
  for (int32_t d = 0; d < NIBBLE_MAX_CHANNELS; d++) weights[d] = 1 / (float)(1 + d);
  return codec->scales == MIXED ? weights : NULL;
}

bool make_strip(const codec *codec, bool is_values, int32_t tokens, int32_t channels,
                nibble_strip strip[NIBBLE_MAX_PARTS]) {
  const int32_t whole = tokens < NIBBLE_MAX_BLOCK_TOKENS ? tokens : NIBBLE_MAX_BLOCK_TOKENS;
  *strip = (nibble_strip){
      .kind = codec->kind,
      .rule = codec->rule,
      .levels = codec->levels,
      .fits_scales = codec->rule == NIBBLE_RULE_TRELLIS,
      .is_values = is_values,
      .tokens = tokens,
      .row_channels = channels,
      .channels = channels,
      .block_tokens = codec->block ? codec->block : whole,
      .group_channels = codec->group ? codec->group : channels,
      .token_scale = -1,
      .token_zero = -1,
      .channel_scale = -1,
      .channel_zero = -1,
      .table = -1,
      .outliers = -1,
      .fixed_scale = 1,
  };
  const int32_t unit = nibble_is_rows(codec->kind) ? 1 : nibble_unit_tiles(codec->kind);
  if (whole % strip->block_tokens || channels % strip->group_channels) return false;
  if (codec->group && codec->group / 4 * (whole / 16) % unit) return false;
  if (nibble_is_trellis(codec->kind) &&
      nibble_block_tiles(is_values, strip->block_tokens, channels) < 16)
    return false;
  if (codec->rule == NIBBLE_RULE_FITTED)
    strip->table = add_side(strip, NIBBLE_TABLE_ENTRIES + 8);
  else if (nibble_constant_table(codec->kind))
    strip->fixed_scale = nibble_constant_unit(codec->kind);
  else if (codec->kind > NIBBLE_INT8)
    make_table(codec, strip);
  const bool has_zero =
      codec->rule == NIBBLE_RULE_ZERO_POINT || codec->rule == NIBBLE_RULE_ZERO_POINT_CLIPPED;
  if (codec->scales != PER_CHANNEL && codec->scales != NO_SCALES) {
    const int32_t bytes = channels / strip->group_channels * tokens * 2;
    strip->token_scale = add_side(strip, bytes);
    if (has_zero) strip->token_zero = add_side(strip, bytes);
  }
  if (codec->scales == PER_CHANNEL || codec->scales == BALANCED) {
    const int32_t bytes = tokens / strip->block_tokens * channels * 2;
    strip->channel_scale = add_side(strip, bytes);
    if (has_zero && codec->scales == PER_CHANNEL) strip->channel_zero = add_side(strip, bytes);
  }
  if (codec->scales == MIXED) {
    if (channels < 64 || tokens % 64) return false;
    mix_parts(strip);
    return true;
  }
  if (codec->outliers) {
    strip->outlier_count = codec->outliers;
    strip->outliers = add_side(strip, tokens / strip->block_tokens * codec->outliers * 4);
  }
  nibble_strip_measure(strip, 1);
  return true;
}

int main(int count, char **arguments) {
  printf("instruction sets:");
  for (const char *const *isa = nibble_available_isas(); *isa; isa++) printf(" %s", *isa);
  printf("; in use: %s\n", nibble_isa());
  if (count > 1 && strcmp(arguments[1], "--list") == 0) return 0;
  if (count > 2 && strcmp(arguments[1], "--sample") == 0)
    sample_stride = strtoull(arguments[2], NULL, 10);
  if (sample_stride == 0) {
    fprintf(stderr, "--sample N: N is 1 or more\n");
    return 2;
  }
  test_integer_kernels();
  test_rotation();
  test_strips();
  test_edges();
  test_attention();
  test_skipping();
  if (failures) fprintf(stderr, "%d checks failed\n", failures);
  return failures ? 1 : 0;
}
