// Where what attention reads of a page lies.
#ifndef NIBBLE_VIEW_H
#define NIBBLE_VIEW_H

#include "feed.h"

enum { NIBBLE_MAX_BLOCKS = NIBBLE_MAX_BLOCK_TOKENS / 16 };  // of a stretch

// What all pages of a run have in common, for one part of a strip.
typedef struct {
  const nibble_strip *strip;
  int32_t part;
  int32_t block_bytes, group_bytes;  // of the codes
  const int8_t *table;               // unless pages have their own
} nibble_part_view;

// One part of a strip at one block of a page: where its codes and scales lie.
typedef struct {
  int32_t token;  // of the block's first row, in its stretch
  int32_t part;
  const nibble_strip *strip;
  int32_t kind;  // NIBBLE_INT8 once expanded
  int32_t group_bytes;
  const uint8_t *codes;
  const int8_t *table;
  float table_scale, table_zero;
  const uint16_t *token_scale, *token_zero, *channel_scale, *channel_zero;
  const uint16_t *outlier_index, *outlier_value;
} nibble_block_view;

// One strip: what its parts have in common in all pages, and the blocks of one stretch, of each all
// parts.
typedef struct {
  nibble_part_view parts[NIBBLE_MAX_PARTS];
  int32_t part_count, block_count;
  nibble_block_view blocks[NIBBLE_MAX_BLOCKS * NIBBLE_MAX_PARTS];
  int32_t count;
} nibble_stretch_view;

// What all stretches have in common.
void nibble_view_strip(nibble_stretch_view *view, const nibble_strip *strip);

// One stretch of a page, whose codes and side data begin at these addresses.
void nibble_view_stretch(nibble_stretch_view *view, const uint8_t *codes, const uint8_t *side,
                         int32_t stretch);

// Codes of group `g` of the channels.
static inline const uint8_t *nibble_group_codes(const nibble_block_view *view, int32_t g) {
  return view->codes + g * view->group_bytes;
}

#endif
