#include "tables.h"

#include <stddef.h>

const int8_t *nibble_constant_table(int32_t kind) {
  switch (kind) {
  case NIBBLE_TRELLIS4: return nibble_trellis4;
  case NIBBLE_TRELLIS3: return nibble_trellis3;
  case NIBBLE_TRELLIS2: return nibble_trellis2;
  case NIBBLE_TRELLIS1: return nibble_trellis1;
  case NIBBLE_BLOCKS4:
  case NIBBLE_COLUMNS4: return nibble_codebooks4;
  case NIBBLE_BLOCKS3:
  case NIBBLE_COLUMNS3: return nibble_codebooks3;
  case NIBBLE_BLOCKS2:
  case NIBBLE_COLUMNS2: return nibble_codebooks2;
  default: return NULL;
  }
}

float nibble_constant_unit(int32_t kind) {
  switch (kind) {
  case NIBBLE_TRELLIS4: return 0.0287619568f;
  case NIBBLE_TRELLIS3: return 0.0255852323f;
  case NIBBLE_TRELLIS2: return 0.023413213f;
  case NIBBLE_TRELLIS1: return 0.0167140607f;
  default: return kind >= NIBBLE_BLOCKS4 ? 1 : 0;
  }
}
