// Exact rows in and out, and codes back to rows.
#include <math.h>
#include <string.h>

#include "encode.h"

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

nibble_table nibble_table_of(const nibble_strip *strip, const uint8_t *side) {
  nibble_table table = {nibble_constant_table(strip->kind), strip->fixed_scale, strip->fixed_zero};
  if (!table.entries) table.entries = strip->fixed_table;
  if (strip->table >= 0) {
    table.entries = (const int8_t *)side + strip->table;
    memcpy(&table.scale, side + strip->table + NIBBLE_TABLE_ENTRIES, sizeof(float));
    memcpy(&table.zero, side + strip->table + NIBBLE_TABLE_ENTRIES + 4, sizeof(float));
  }
  return table;
}

static float dense_value(const nibble_strip *strip, const nibble_table *table, const uint8_t *codes,
                         const uint8_t *side, int32_t token, int32_t d) {
  const int32_t tokens = strip->block_tokens, group = strip->group_channels, block = token / tokens;
  const uint8_t *base =
      codes + (size_t)block * (size_t)nibble_strip_block_bytes(strip) +
      d / group * nibble_block_bytes(strip->kind, strip->is_values, tokens, group);
  const uint8_t index = nibble_index_at(strip->kind, strip->is_values, base, tokens, group,
                                        token % tokens, d % group);
  const float entry =
      strip->kind == NIBBLE_INT8 ? (float)(int8_t)index : (float)table->entries[index];
  const int32_t of_token = d / group * strip->tokens + token,
                of_channel = block * strip->channels + d;
  float zero = table->zero, scale = table->scale;
  if (strip->token_zero >= 0)
    zero += nibble_from_float16(nibble_side_value(side, strip->token_zero, of_token));
  if (strip->channel_zero >= 0)
    zero += nibble_from_float16(nibble_side_value(side, strip->channel_zero, of_channel));
  if (strip->token_scale >= 0)
    scale *= nibble_from_bfloat16(nibble_side_value(side, strip->token_scale, of_token));
  if (strip->channel_scale >= 0)
    scale *= nibble_from_bfloat16(nibble_side_value(side, strip->channel_scale, of_channel));
  return (entry - zero) * scale;
}

float nibble_dense_value(const nibble_strip *strip, const uint8_t *codes, const uint8_t *side,
                         int32_t token, int32_t channel) {
  const nibble_table table = nibble_table_of(strip, side);
  return dense_value(strip, &table, codes, side, token, channel);
}

static void add_outliers(const nibble_strip *strip, const uint8_t *side, int32_t first,
                         int32_t count, float *rows) {
  const int32_t wanted = strip->outlier_count, blocks = strip->tokens / strip->block_tokens;
  for (int32_t i = 0; i < blocks * wanted; i++) {
    const int32_t index = nibble_side_value(side, strip->outliers, i),
                  token = i / wanted * strip->block_tokens + index / strip->channels - first;
    if (token >= 0 && token < count)
      rows[token * strip->channels + index % strip->channels] +=
          nibble_from_bfloat16(nibble_side_value(side, strip->outliers, blocks * wanted + i));
  }
}

static void decode_part(const nibble_strip *part, const uint8_t *codes, const uint8_t *side,
                        int32_t first, int32_t count, float *rows) {
  const nibble_table table = nibble_table_of(part, side);
  for (int32_t i = 0; i < count; i++)
    for (int32_t d = 0; d < part->channels; d++)
      rows[i * part->row_channels + part->first_channel + d] =
          dense_value(part, &table, codes + part->code_offset, side, first + i, d);
}

void nibble_decode(const nibble_strip *strip, const uint8_t *codes, const uint8_t *side,
                   int32_t first, int32_t count, float *rows) {
  if (nibble_is_rows(strip->kind)) {
    read_rows(strip, codes, first, count, rows);
    return;
  }
  const int32_t width = strip->row_channels;
  memset(rows, 0, (size_t)count * (size_t)width * sizeof *rows);
  for (int32_t i = 0; i < strip->parts; i++)
    decode_part(strip + i, codes, side, first, count, rows);
  if (strip->outliers >= 0) add_outliers(strip, side, first, count, rows);
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
