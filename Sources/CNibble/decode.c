// Exact rows in and out, and codes back to rows.
#include <math.h>
#include <string.h>

#include "kernels.h"

// One row in an exact strip's precision, in the order of its channels.
static const void *narrow_row(const nibble_strip *strip, const float *row, uint16_t *narrow) {
  if (strip->kind == NIBBLE_FLOAT32) return row;
  if (strip->kind == NIBBLE_FLOAT16) {
    nibble_current_kernels()->narrow_float16(row, (size_t)strip->channels, narrow);
  } else {
    for (int32_t d = 0; d < strip->channels; d++) narrow[d] = nibble_to_bfloat16(row[d]);
  }
  return narrow;
}

void nibble_write_rows(const nibble_strip *strip, uint8_t *codes, int32_t first, int32_t count,
                       const float *rows, size_t stride) {
  const int32_t channels = strip->channels, tokens = strip->block_tokens;
  const int32_t width = nibble_element_bytes(strip->kind);
  uint16_t narrow[NIBBLE_MAX_CHANNELS];
  for (int32_t i = 0; i < count; i++) {
    const int32_t block = (first + i) / tokens, t = (first + i) % tokens;
    uint8_t *base = codes + (size_t)block * (size_t)nibble_strip_block_bytes(strip);
    const void *row = narrow_row(strip, rows + (size_t)i * stride, narrow);
    if (strip->is_values) {
      memcpy(base + nibble_row_index(true, t, 0, tokens, channels) * (size_t)width, row,
             (size_t)(channels * width));
    } else if (width == 4) {
      for (int32_t d = 0; d < channels; d++)
        ((float *)(void *)base)[d * tokens + t] = ((const float *)row)[d];
    } else {
      for (int32_t d = 0; d < channels; d++)
        ((uint16_t *)(void *)base)[d * tokens + t] = ((const uint16_t *)row)[d];
    }
  }
}

// Tokens of an exact strip; whole blocks at a time where the codes lie channel by channel.
static void read_rows(const nibble_strip *strip, const uint8_t *codes, int32_t first, int32_t count,
                      float *rows) {
  const int32_t channels = strip->channels, tokens = strip->block_tokens;
  const int32_t width = nibble_element_bytes(strip->kind);
  float wide[NIBBLE_MAX_CHANNELS];
  for (int32_t i = 0; i < count; i++, rows += channels) {
    const int32_t block = (first + i) / tokens, t = (first + i) % tokens;
    const uint8_t *base = codes + (size_t)block * (size_t)nibble_strip_block_bytes(strip);
    uint16_t narrow[NIBBLE_MAX_CHANNELS];
    if (strip->is_values) {
      const uint8_t *source = base + nibble_row_index(true, t, 0, tokens, channels) * (size_t)width;
      memcpy(width == 4 ? (void *)wide : narrow, source, (size_t)(channels * width));
    } else if (width == 4) {
      for (int32_t d = 0; d < channels; d++)
        wide[d] = ((const float *)(const void *)base)[d * tokens + t];
    } else {
      for (int32_t d = 0; d < channels; d++)
        narrow[d] = ((const uint16_t *)(const void *)base)[d * tokens + t];
    }
    if (width == 4)
      memcpy(rows, wide, (size_t)channels * sizeof *rows);
    else if (strip->kind == NIBBLE_FLOAT16)
      nibble_current_kernels()->widen_float16(narrow, (size_t)channels, rows);
    else
      nibble_widen_bfloat16(narrow, (size_t)channels, rows);
  }
}

static float coded_value(const nibble_strip *strip, const uint8_t *base, const int8_t *table,
                         int32_t t, int32_t d) {
  const int32_t tokens = strip->block_tokens, group = strip->group_channels;
  const uint8_t *codes =
      base + d / group * nibble_block_bytes(strip->kind, strip->is_values, tokens, group);
  const uint8_t index =
      nibble_index_at(strip->kind, strip->is_values, codes, tokens, group, t, d % group);
  return strip->kind == NIBBLE_INT8 ? (float)(int8_t)index : (float)table[index];
}

void nibble_decode(const nibble_strip *strip, const uint8_t *codes, const uint8_t *side,
                   int32_t first, int32_t count, float *rows) {
  if (nibble_is_rows(strip->kind)) {
    read_rows(strip, codes, first, count, rows);
    return;
  }
  const int8_t *table = nibble_constant_table(strip->kind);
  if (!table) table = strip->table >= 0 ? (const int8_t *)side + strip->table : strip->fixed_table;
  float table_scale = strip->fixed_scale, table_zero = strip->fixed_zero;
  if (strip->table >= 0) {
    memcpy(&table_scale, side + strip->table + NIBBLE_TABLE_ENTRIES, sizeof(float));
    memcpy(&table_zero, side + strip->table + NIBBLE_TABLE_ENTRIES + 4, sizeof(float));
  }
  for (int32_t token = first; token < first + count; token++) {
    const int32_t block = token / strip->block_tokens, t = token % strip->block_tokens;
    const uint8_t *base = codes + (size_t)block * (size_t)nibble_strip_block_bytes(strip);
    for (int32_t d = 0; d < strip->channels; d++, rows++) {
      const int32_t of_token = d / strip->group_channels * strip->tokens + token;
      const int32_t of_channel = block * strip->channels + d;
      float zero = table_zero, scale = table_scale;
      if (strip->token_zero >= 0)
        zero += nibble_from_float16(
            ((const uint16_t *)(const void *)(side + strip->token_zero))[of_token]);
      if (strip->channel_zero >= 0)
        zero += nibble_from_float16(
            ((const uint16_t *)(const void *)(side + strip->channel_zero))[of_channel]);
      if (strip->token_scale >= 0)
        scale *= nibble_from_bfloat16(
            ((const uint16_t *)(const void *)(side + strip->token_scale))[of_token]);
      if (strip->channel_scale >= 0)
        scale *= nibble_from_bfloat16(
            ((const uint16_t *)(const void *)(side + strip->channel_scale))[of_channel]);
      *rows = (coded_value(strip, base, table, t, d) - zero) * scale;
    }
  }
}

ptrdiff_t nibble_first_outside(const float *values, size_t count, float limit) {
  size_t i = 0;
  for (; i + 64 <= count;
       i += 64) {  // whole stretches first: one comparison a value, no exit inside
    int bad = 0;
    for (size_t j = 0; j < 64; j++) bad |= !(fabsf(values[i + j]) <= limit);
    if (bad) break;
  }
  for (; i < count; i++)
    if (!(fabsf(values[i]) <= limit)) return (ptrdiff_t)i;
  return -1;
}

void nibble_widen_float16(const uint16_t *source, size_t count, float *result) {
  nibble_current_kernels()->widen_float16(source, count, result);
}

void nibble_widen_bfloat16(const uint16_t *source, size_t count, float *result) {
  for (size_t i = 0; i < count; i++) result[i] = nibble_from_bfloat16(source[i]);
}
