#include "feed.h"

enum { NEAREST_BYTES = 16 * 1024 };  // what may come to the nearest cache at once

// Of one head in a page: codes of the keys and values, then their side data. Pages that were
// decoded for attention have none, at offset zero: nothing of them is fetched.
static int32_t page_bytes(const nibble_run *run) {
  const size_t end = run->value_side + (size_t)run->values->side_bytes;
  return end > run->key_codes ? (int32_t)(end - run->key_codes) : 0;
}

// Lines of codes that are read for `rows` rows: at most four share a reading, and halves count as
// rows of their own.
static int32_t lines_read(const nibble_strip *strip, int32_t rows) {
  int32_t lines = 0;
  for (int32_t i = 0; i < strip->parts; i++) {
    const int32_t stacked_rows = nibble_wants_halves(&strip[i]) ? 2 * rows : rows;
    lines += strip[i].code_bytes / 64 * ((stacked_rows + 3) / 4);
  }
  return lines;
}

// Spreads the lines of the next page over the time that this one takes: over lines of codes that
// are read, and registers of results of the float parts. They take about as long as each other.
nibble_feed nibble_start_feed(const nibble_run *run, const nibble_rows *rows) {
  const nibble_strip *keys = run->keys;
  const int32_t padded = nibble_padded_channels(keys->row_channels),
                registers =
                    rows->count *
                    (keys->tokens * 4 + keys->tokens / nibble_stretch_tokens(keys) * padded) / 16,
                work = registers + lines_read(keys, rows->count) +
                       lines_read(run->values, rows->count);
  return (nibble_feed){.rate = page_bytes(run) / 64 * NIBBLE_FEED_UNIT / work + 1,
                       .may_skip = rows->skip != NULL};
}

void nibble_fetch_first(const nibble_run *run, const uint8_t *page) {
  const int32_t bytes = page_bytes(run);
  page += run->key_codes;
  int32_t i = 0;
  for (; i < bytes && i < NEAREST_BYTES; i += 64) __builtin_prefetch(page + i, 0, 3);
  for (; i < bytes; i += 64) __builtin_prefetch(page + i, 0, 2);
}

// Fetches whatever is left, but of a page that may be left out.
static void finish_feed(nibble_feed *feed) {
  if (feed->may_skip) return;
  while (feed->next < feed->end) nibble_fetch_line(feed);
}

void nibble_feed_page(nibble_feed *feed, const nibble_run *run, const uint8_t *page,
                      const uint8_t *after) {
  finish_feed(feed);
  feed->next = page + run->key_codes;
  feed->after = after + run->key_codes;
  feed->end = feed->next + page_bytes(run);
}

void nibble_feed_following(nibble_feed *feed, const nibble_run *run) {
  finish_feed(feed);
  feed->next = feed->after = run->following;
  feed->end = feed->next + run->following_bytes;
}
