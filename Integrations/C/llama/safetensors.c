#define _POSIX_C_SOURCE 200809L

#include "safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static const uint64_t header_limit = 100 << 20;

static void read_at(const safetensors *tensors, uint64_t offset, void *bytes, size_t count) {
  if (offset > INT64_MAX || fseeko(tensors->file, (off_t)offset, SEEK_SET) != 0 ||
      fread(bytes, 1, count, tensors->file) != count) {
    die("%s: cannot read %zu bytes at %llu", tensors->path, count, (unsigned long long)offset);
  }
}

safetensors safetensors_open(const char *path) {
  safetensors tensors = {.file = fopen(path, "rb"), .path = path};
  if (tensors.file == NULL || fseeko(tensors.file, 0, SEEK_END) != 0) {
    die("cannot read %s: %s", path, strerror(errno));
  }
  const off_t end = ftello(tensors.file);
  if (end < 8) die("%s is no safetensors file: it has fewer than 8 bytes", path);
  uint8_t length[8];
  read_at(&tensors, 0, length, sizeof length);
  uint64_t header_bytes = 0;
  for (int i = 8; i-- > 0;) header_bytes = header_bytes << 8 | length[i];
  if (header_bytes > (uint64_t)end - 8 || header_bytes > header_limit) {
    die("%s is no safetensors file: a header of %llu bytes in %llu", path,
        (unsigned long long)header_bytes, (unsigned long long)end);
  }
  char *text = allocate((size_t)header_bytes + 1, 1);
  read_at(&tensors, 8, text, (size_t)header_bytes);
  tensors.header = json_read(text, (size_t)header_bytes, path);
  free(text);
  tensors.data_start = 8 + header_bytes;
  tensors.data_bytes = (uint64_t)end - tensors.data_start;
  return tensors;
}

void safetensors_close(safetensors *tensors) {
  fclose(tensors->file);
  json_free(&tensors->header);
}

// ---- A tensor

typedef enum { FLOAT32, FLOAT16, BFLOAT16 } element;

// A float16's value, exactly. The exponent's bias differs by 112; the product also normalizes
// subnormal numbers.
static float widen_half(uint16_t bits) {
  const uint32_t magnitude = (uint32_t)(bits & 0x7FFF) << 13;
  uint32_t result = magnitude | 0x7F800000;  // infinities and NaNs
  if (magnitude < 0x0F800000) {
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    memcpy(&result, &value, sizeof result);
  }
  result |= (uint32_t)(bits & 0x8000) << 16;
  float value;
  memcpy(&value, &result, sizeof value);
  return value;
}

// Widens `count` values that lie in the last bytes of `values`, in place.
static void widen(element type, float *values, size_t count) {
  const uint8_t *packed = (const uint8_t *)values + 2 * count;
  for (size_t i = 0; i < count; i++) {
    const uint16_t bits = (uint16_t)(packed[2 * i] | packed[2 * i + 1] << 8);
    if (type == FLOAT16) {
      values[i] = widen_half(bits);
    } else {
      const uint32_t wide = (uint32_t)bits << 16;
      memcpy(values + i, &wide, sizeof wide);
    }
  }
}

static element element_of(const safetensors *tensors, const char *name, const json_node *type) {
  if (json_is(type, "F32")) return FLOAT32;
  if (json_is(type, "F16")) return FLOAT16;
  if (json_is(type, "BF16")) return BFLOAT16;
  const bool is_text = type != NULL && type->kind == JSON_STRING;
  die("%s: %s has the type %s; expected F32, F16 or BF16", tensors->path, name,
      is_text ? type->text : "(none)");
}

static void check_shape(const safetensors *tensors, const char *name, const json_node *shape,
                        size_t rows, size_t columns) {
  const size_t expected[] = {rows, columns};
  const json_document *header = &tensors->header;
  const json_node *extent = json_first(header, shape);
  bool fits = shape != NULL && shape->kind == JSON_ARRAY;
  for (int i = rows == 0 ? 1 : 0; i < 2; i++, extent = json_next(header, extent)) {
    uint64_t value = 0;
    fits = fits && json_whole(extent, SIZE_MAX, &value) && value == expected[i];
  }
  if (!fits || extent != NULL) {
    die("%s: %s has another shape than [%zu, %zu]", tensors->path, name, rows, columns);
  }
}

float *safetensors_read(const safetensors *tensors, const char *name, size_t rows, size_t columns) {
  const json_document *header = &tensors->header;
  const json_node *tensor = json_member(header, header->nodes, name);
  if (tensor == NULL) die("%s has no tensor %s", tensors->path, name);
  const element type = element_of(tensors, name, json_member(header, tensor, "dtype"));
  check_shape(tensors, name, json_member(header, tensor, "shape"), rows, columns);

  const json_node *offsets = json_member(header, tensor, "data_offsets");
  const json_node *begin_node = json_first(header, offsets);
  uint64_t begin = 0, end = 0;
  const bool reads = json_whole(begin_node, tensors->data_bytes, &begin) &&
                     json_whole(json_next(header, begin_node), tensors->data_bytes, &end);
  // The limits of a configuration keep the product far from overflowing.
  const size_t count = (rows == 0 ? 1 : rows) * columns;
  const size_t bytes = count * (type == FLOAT32 ? 4 : 2);
  if (!reads || begin > end || end - begin != bytes) {
    die("%s: %s does not lie in %zu bytes of the %llu behind the header", tensors->path, name,
        bytes, (unsigned long long)tensors->data_bytes);
  }
  float *values = allocate(count, sizeof(float));
  const size_t room = count * sizeof(float);
  read_at(tensors, tensors->data_start + begin, (char *)values + room - bytes, bytes);
  if (type != FLOAT32) widen(type, values, count);
  return values;
}
