// The constant tables, each in the file that says how it was made.
#ifndef NIBBLE_TABLES_H
#define NIBBLE_TABLES_H

#include "CNibble.h"

extern const int8_t nibble_trellis4[NIBBLE_TRELLIS_ENTRIES];
extern const int8_t nibble_trellis3[NIBBLE_TRELLIS_ENTRIES];
extern const int8_t nibble_trellis2[NIBBLE_TRELLIS_ENTRIES];
extern const int8_t nibble_trellis1[NIBBLE_TRELLIS_ENTRIES];

extern const int8_t nibble_codebooks4[NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES];
extern const int8_t nibble_codebooks3[NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES];
extern const int8_t nibble_codebooks2[NIBBLE_CODEBOOKS * NIBBLE_TABLE_ENTRIES];

#endif
