#include "view.h"

#include <string.h>

static nibble_part_view view_part(const nibble_strip *strip, int32_t part) {
  strip += part;
  const int8_t *constant = nibble_constant_table(strip->kind);
  return (nibble_part_view){
      .strip = strip,
      .part = part,
      .block_bytes = nibble_strip_block_bytes(strip),
      .group_bytes = nibble_block_bytes(strip->kind, strip->is_values, strip->block_tokens,
                                        strip->group_channels),
      .table = constant ? constant : strip->fixed_table,
  };
}

static const uint16_t *at(const uint8_t *side, int32_t offset, int32_t index) {
  return offset < 0 ? NULL : (const uint16_t *)(const void *)(side + offset) + index;
}

// `first`: the token of the page that the stretch begins with.
static void view_block(nibble_block_view *view, const nibble_part_view *part, const uint8_t *codes,
                       const uint8_t *side, int32_t block, int32_t first) {
  const nibble_strip *strip = part->strip;
  const int32_t token = block * strip->block_tokens, channel = block * strip->channels;
  view->part = part->part;
  view->strip = strip;
  view->kind = strip->kind;
  view->group_bytes = part->group_bytes;
  view->token = token - first;
  view->codes = codes + strip->code_offset + block * part->block_bytes;
  view->token_scale = at(side, strip->token_scale, token);
  view->token_zero = at(side, strip->token_zero, token);
  view->channel_scale = at(side, strip->channel_scale, channel);
  view->channel_zero = at(side, strip->channel_zero, channel);
  view->outlier_index = view->outlier_value = NULL;
  if (strip->outliers >= 0) {
    const int32_t outliers = strip->tokens / strip->block_tokens * strip->outlier_count;
    view->outlier_index = at(side, strip->outliers, block * strip->outlier_count);
    view->outlier_value = view->outlier_index + outliers;
  }
  view->table = part->table;
  view->table_scale = strip->fixed_scale;
  view->table_zero = strip->fixed_zero;
  if (strip->table >= 0) {
    view->table = (const int8_t *)side + strip->table;
    memcpy(&view->table_scale, side + strip->table + NIBBLE_TABLE_ENTRIES, sizeof(float));
    memcpy(&view->table_zero, side + strip->table + NIBBLE_TABLE_ENTRIES + 4, sizeof(float));
  }
}

void nibble_view_strip(nibble_stretch_view *view, const nibble_strip *strip) {
  view->part_count = strip->parts;
  view->block_count = nibble_stretch_tokens(strip) / strip->block_tokens;
  view->count = view->block_count * view->part_count;
  for (int32_t part = 0; part < strip->parts; part++) view->parts[part] = view_part(strip, part);
}

void nibble_view_stretch(nibble_stretch_view *view, const uint8_t *codes, const uint8_t *side,
                         int32_t stretch) {
  const int32_t first = stretch * view->block_count,
                token = first * view->parts[0].strip->block_tokens;
  nibble_block_view *block = view->blocks;
  for (int32_t i = 0; i < view->block_count; i++)
    for (int32_t part = 0; part < view->part_count; part++)
      view_block(block++, &view->parts[part], codes, side, first + i, token);
}
