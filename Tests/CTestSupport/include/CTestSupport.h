// What tests need of the system and cannot have from Swift.
#ifndef CTESTSUPPORT_H
#define CTESTSUPPORT_H

#include <stdbool.h>
#include <stddef.h>

// Whether allocations can be counted: with glibc, and without a sanitizer, which brings an
// allocator of its own.
bool test_can_count_allocations(void);
// Begins or ends the counting of what the calling thread allocates. Of tests that run at the same
// time only one may count.
void test_watch_thread(bool is_watched);
// Allocations of all watched threads so far: calls of malloc, calloc, realloc and the like.
long test_allocations(void);
// Whether test_peak_bytes means anything: with glibc, or under a sanitizer.
bool test_can_measure_allocations(void);
// The most bytes that the calling thread held at once since its last call of this, beyond those
// that it held then; it need not be watched.
size_t test_peak_bytes(void);

// Calls `body` in a fork of this process. Whether it returned true within `seconds`.
bool test_in_fork(bool (*body)(void *context), void *context, unsigned seconds);

#endif
