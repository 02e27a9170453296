// How the next pages are fetched while attention works on this one.
#ifndef NIBBLE_FEED_H
#define NIBBLE_FEED_H

#include "kernels.h"

// Keys and values of a page may have blocks of different lengths. Softmax and weights go by
// stretches, which both divide.
static inline int32_t nibble_stretch_tokens(const nibble_strip *strip) {
  return strip->tokens < NIBBLE_MAX_BLOCK_TOKENS ? strip->tokens : NIBBLE_MAX_BLOCK_TOKENS;
}

// Eight-bit keys and values deserve a query and weights of sixteen bits, as two integers of eight.
static inline bool nibble_wants_halves(const nibble_strip *strip) {
  return strip->kind == NIBBLE_INT8;
}

// A feed without a page yet, whose rate spreads a page over the work of attending to one.
nibble_feed nibble_start_feed(const nibble_run *run, const nibble_rows *rows);

// Fetches the run's first page, which is needed now: all lines at once take less than one after the
// other.
void nibble_fetch_first(const nibble_run *run, const uint8_t *page);

// Goes on with what is read after the run's last page.
void nibble_feed_following(nibble_feed *feed, const nibble_run *run);

// Goes on with `page`, which `after` follows (or `page`, if none does). Whatever is left of the
// page before is fetched at once, unless it may be left out.
void nibble_feed_page(nibble_feed *feed, const nibble_run *run, const uint8_t *page,
                      const uint8_t *after);

#endif
