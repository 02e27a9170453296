// The integer kernels, the rotation and the encoders of every instruction set against plain C.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "testing.h"

static const int32_t block_lengths[] = {16, 32, 48, 64};
static const int32_t widths[] = {8,  16, 24,  32,  40,  48,  56,  64,  72, 80,
                                 88, 96, 120, 128, 136, 248, 256, 264, 504};
static const int32_t row_counts[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 32};

#define COUNT(array) (int32_t)(sizeof(array) / sizeof *(array))
#define EACH(name, array)                                                                          \
  for (int32_t name##_index = 0, name = (array)[0]; name##_index < COUNT(array);                   \
       name##_index++, name = name##_index < COUNT(array) ? (array)[name##_index] : 0)

// Random bytes; every third time the two extremes only.
static void *random_bytes(size_t count, uint8_t low, uint8_t high) {
  uint8_t *bytes = exact_memory(count);
  const bool is_extreme = random_below(3) == 0;
  for (size_t i = 0; i < count; i++) {
    const uint64_t word = random_word();
    bytes[i] = is_extreme ? (word & 1 ? high : low) : (uint8_t)(word >> 8);
  }
  return bytes;
}

// What kernels may take for granted of some trellises: one half of the table mirrors the other.
static void make_odd(nibble_kind kind, int8_t *table) {
  for (int32_t i = 0; i < NIBBLE_TRELLIS_ENTRIES / 2; i++) {
    if (table[i] == INT8_MIN) table[i] = -INT8_MAX;
    table[nibble_trellis_mirror(kind, (uint8_t)i)] = (int8_t)-table[i];
  }
}

typedef struct {
  nibble_kind kind;
  bool is_values;
  int32_t tokens, width, rows;
  uint8_t *codes, *operand;
  int8_t *table;
} integer_case;

static int32_t *run(const char *isa, const integer_case *c, size_t count) {
  int32_t *out = exact_memory(count * sizeof *out);
  if (c->is_values)
    nibble_test_weigh(isa, c->kind, c->codes, c->table, c->tokens, c->width, c->operand, c->rows,
                      out);
  else
    nibble_test_dot(isa, c->kind, c->codes, c->table, c->tokens, c->width,
                    (const int8_t *)c->operand, c->rows, out);
  return out;
}

static void compare_integers(integer_case c) {
  const size_t bytes = (size_t)nibble_block_bytes(c.kind, c.is_values, c.tokens, c.width);
  const int32_t inner = c.is_values ? c.tokens : c.width, outer = c.is_values ? c.width : c.tokens;
  const size_t count = (size_t)outer * (size_t)c.rows;
  c.codes = random_bytes(bytes, 0, 255);
  c.table = random_bytes(nibble_is_trellis(c.kind)      ? NIBBLE_TRELLIS_ENTRIES
                         : nibble_has_selectors(c.kind) ? NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES
                                                        : NIBBLE_TABLE_ENTRIES,
                         0x80, 0x7f);
  if (nibble_is_odd(c.kind)) make_odd(c.kind, c.table);
  c.operand = random_bytes((size_t)inner * (size_t)c.rows, c.is_values ? 0 : 0x80,
                           c.is_values ? 255 : 0x7f);
  int32_t *truth = run("scalar", &c, count);
  for (const char *const *isa = nibble_available_isas(); *isa; isa++) {
    int32_t *out = run(*isa, &c, count);
    CHECK(memcmp(out, truth, count * sizeof *out) == 0,
          "%s: kind %d, %s, %d tokens, %d channels, %d rows differ from scalar", *isa, c.kind,
          c.is_values ? "weigh" : "dot", c.tokens, c.width, c.rows);
    free(out);
  }
  free(truth);
  free(c.codes);
  free(c.table);
  free(c.operand);
}

// The encoder walks through codebooks in their order.
static void check_codebooks(void) {
  for (nibble_kind kind = NIBBLE_BLOCKS4; kind <= NIBBLE_BLOCKS2; kind++)
    for (int32_t i = 0; i < NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES; i++) {
      const int8_t *table = nibble_constant_table(kind);
      const int32_t code = i % NIBBLE_TABLE_ENTRIES, levels = 1 << nibble_code_bits(kind);
      CHECK(code == 0 || code >= levels || table[i] > table[i - 1], "kind %d, entry %d", kind, i);
      CHECK(abs(table[i]) <= 31, "kind %d, entry %d", kind, i);
    }
}

void test_integer_kernels(void) {
  random_seed(1);
  check_codebooks();
  for (nibble_kind kind = NIBBLE_INT8; kind < NIBBLE_KINDS; kind++) EACH(tokens, block_lengths)
  EACH(width, widths)
  EACH(rows, row_counts) {
    if (width > 136 && rows > 5) continue;  // they only take long
    if (!is_sampled()) continue;
    compare_integers((integer_case){kind, false, tokens, width, rows, NULL, NULL, NULL});
    if (width % 16 == 0)
      compare_integers((integer_case){kind, true, tokens, width, rows, NULL, NULL, NULL});
  }
  compare_integers((integer_case){NIBBLE_CODES4, false, 64, 512, 16, NULL, NULL, NULL});
  compare_integers((integer_case){NIBBLE_INT8, true, 64, 512, 32, NULL, NULL, NULL});
}

// ---- Rotation

void test_rotation(void) {
  random_seed(2);
  for (int32_t channels = 8; channels <= NIBBLE_MAX_CHANNELS; channels += 8) {
    const size_t rows = 3, count = rows * (size_t)channels, bytes = count * sizeof(float);
    float *source = exact_memory(bytes), *truth = exact_memory(bytes),
          *turned = exact_memory(bytes);
    random_normals(source, count, 0);
    nibble_select_isa("scalar");
    memcpy(truth, source, bytes);
    nibble_rotate(truth, rows, channels);
    for (const char *const *isa = nibble_available_isas(); *isa; isa++) {
      nibble_select_isa(*isa);
      memcpy(turned, source, bytes);
      nibble_rotate(turned, rows, channels);
      CHECK(memcmp(turned, truth, bytes) == 0, "%s: rotation of %d channels", *isa, channels);
      nibble_rotate_back(turned, rows, channels);
      CHECK(relative_error(turned, source, count) < 1e-5, "%s: %d channels and back", *isa,
            channels);
    }
    free(source);
    free(truth);
    free(turned);
  }
}

// ---- Strips

static void decode_parts(const nibble_strip *strip, const uint8_t *codes, const uint8_t *side,
                         const float *whole, const char *name) {
  const int32_t first = random_below(strip->tokens),
                count = 1 + random_below(strip->tokens - first);
  const size_t values = (size_t)count * (size_t)strip->row_channels;
  float *part = exact_memory(values * sizeof *part);
  nibble_decode(strip, codes, side, first, count, part);
  CHECK(memcmp(part, whole + (size_t)first * (size_t)strip->row_channels, values * sizeof *part) ==
            0,
        "%s: tokens %d to %d decode differently alone", name, first, first + count);
  free(part);
}

static void compare_strip(const codec *codec, const nibble_strip *strip) {
  const size_t count = (size_t)strip->tokens * (size_t)strip->row_channels;
  const size_t code_bytes = strip_code_bytes(strip), side_bytes = (size_t)strip->side_bytes;
  float *rows = exact_memory(count * sizeof *rows), *decoded = exact_memory(count * sizeof *rows);
  void *scratch = exact_memory(nibble_encode_scratch_bytes(strip));
  uint8_t *truth = exact_memory(code_bytes + side_bytes);
  random_normals(rows, count, 0.2f);
  nibble_select_isa("scalar");
  float *copy = exact_memory(count * sizeof *copy);
  memcpy(copy, rows, count * sizeof *copy);
  nibble_encode(strip, strip_weights(codec), NULL, copy, truth, truth + code_bytes, scratch);
  for (const char *const *isa = nibble_available_isas(); *isa; isa++) {
    nibble_select_isa(*isa);
    uint8_t *codes = exact_memory(code_bytes), *side = exact_memory(side_bytes);
    memcpy(copy, rows, count * sizeof *copy);
    nibble_encode(strip, strip_weights(codec), NULL, copy, codes, side, scratch);
    CHECK(memcmp(codes, truth, code_bytes) == 0 &&
              memcmp(side, truth + code_bytes, side_bytes) == 0,
          "%s: %s of %d x %d differs from scalar", *isa, codec->name, strip->tokens,
          strip->row_channels);
    nibble_decode(strip, codes, side, 0, strip->tokens, decoded);
    const double error = relative_error(decoded, rows, count);
    CHECK(error <= (double)codec->error, "%s: %s of %d x %d (values: %d): error %g", *isa,
          codec->name, strip->tokens, strip->row_channels, strip->is_values, error);
    decode_parts(strip, codes, side, decoded, codec->name);
    free(codes);
    free(side);
  }
  free(rows);
  free(copy);
  free(decoded);
  free(scratch);
  free(truth);
}

// ---- Rows that strain the scales

static const char *const edges[] = {"zeros",       "a constant", "an outlier", "subnormals",
                                    "1e-37",       "1e-20",      "1e30",       "1e35",
                                    "alternating", "mixed rows"};

static float edge_value(int32_t edge, int32_t token, int32_t channel) {
  switch (edge) {
  case 0: return 0;
  case 1: return 3.7f;
  case 2: return token == 5 && channel == 3 ? 60000 : random_normal();
  case 3: return 1e-41f * random_normal();
  case 4: return 1e-37f * random_normal();
  case 5: return 1e-20f * random_normal();
  case 6: return 1e30f * random_normal();
  case 7: return 1.6e34f * random_normal();
  case 8: return (token + channel) % 2 ? 1 : -1;
  default: return powf(10, (float)(token % 16 * 4 - 40)) * random_normal();
  }
}

// Every instruction set gives the same finite rows, and no error is larger than the largest value.
static void compare_edge(const codec *codec, const nibble_strip *strip, int32_t edge) {
  const int32_t channels = strip->row_channels;
  const size_t count = (size_t)strip->tokens * (size_t)channels;
  const size_t code_bytes = strip_code_bytes(strip), side_bytes = (size_t)strip->side_bytes;
  float *rows = exact_memory(count * sizeof *rows), *decoded = exact_memory(count * sizeof *rows);
  float *truth = exact_memory(count * sizeof *rows), *copy = exact_memory(count * sizeof *rows);
  float top = 0;
  // One bit fits a row in the sense of squares, not each value.
  const float bound = codec->kind == NIBBLE_TRELLIS1 ? 2 : 1.01f;
  void *scratch = exact_memory(nibble_encode_scratch_bytes(strip));
  for (size_t i = 0; i < count; i++) {
    rows[i] = edge_value(edge, (int32_t)i / channels, (int32_t)i % channels);
    top = fmaxf(top, fabsf(rows[i]));
  }
  for (const char *const *isa = nibble_available_isas(); *isa; isa++) {
    nibble_select_isa(*isa);
    uint8_t *codes = exact_memory(code_bytes), *side = exact_memory(side_bytes);
    memcpy(copy, rows, count * sizeof *copy);
    nibble_encode(strip, strip_weights(codec), NULL, copy, codes, side, scratch);
    nibble_decode(strip, codes, side, 0, strip->tokens, decoded);
    bool is_near = true;
    for (size_t i = 0; i < count; i++) is_near &= fabsf(decoded[i] - rows[i]) <= bound * top;
    CHECK(is_near, "%s: %s of %s (values: %d)", *isa, codec->name, edges[edge], strip->is_values);
    if (isa == nibble_available_isas()) memcpy(truth, decoded, count * sizeof *rows);
    CHECK(memcmp(truth, decoded, count * sizeof *rows) == 0, "%s: %s of %s differs", *isa,
          codec->name, edges[edge]);
    free(codes);
    free(side);
  }
  free(rows);
  free(copy);
  free(decoded);
  free(truth);
  free(scratch);
}

void test_edges(void) {
  random_seed(5);
  for (int32_t i = 0; i < codec_count; i++)
    for (int32_t edge = 0; edge < COUNT(edges); edge++)
      for (int side = 0; side < 2; side++) {
        nibble_strip strip[NIBBLE_MAX_PARTS];
        if (codecs[i].kind == NIBBLE_FLOAT16 && (edge == 6 || edge == 7 || edge == 9)) continue;
        if (!is_sampled()) continue;
        if (make_strip(&codecs[i], side, 32, 64, strip)) compare_edge(&codecs[i], strip, edge);
      }
}

void test_strips(void) {
  static const int32_t page_lengths[] = {16, 32, 48, 64, 192};
  static const int32_t dimensions[] = {8, 24, 48, 64, 80, 136, 512};
  random_seed(3);
  for (int32_t i = 0; i < codec_count; i++) EACH(tokens, page_lengths)
  EACH(channels, dimensions)
  for (int side = 0; side < 2; side++) {
    nibble_strip strip[NIBBLE_MAX_PARTS];
    if (tokens * channels > 192 * 136 || !is_sampled()) continue;
    if (make_strip(&codecs[i], side, tokens, channels, strip)) compare_strip(&codecs[i], strip);
  }
}
